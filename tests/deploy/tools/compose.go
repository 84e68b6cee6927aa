// Command compose-check loads Compose files as `docker compose config` does, and prints the project
// as JSON.
//
//	compose-check [-profile NAME] [-scale SERVICE=NUMBER] FILE...
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	profile := flag.String("profile", "", "a profile to enable")
	scale := flag.String("scale", "", "SERVICE=NUMBER, as in docker compose up --scale")
	flag.Parse()
	if err := run(flag.Args(), *profile, *scale); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(files []string, profile, scale string) error {
	folder, err := filepath.Abs(filepath.Dir(files[0]))
	if err != nil {
		return err
	}
	options, err := cli.NewProjectOptions(files,
		cli.WithWorkingDirectory(folder),
		cli.WithOsEnv,
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithProfiles(strings.Fields(profile)),
		cli.WithConsistency(true),
	)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	if name, number, found := strings.Cut(scale, "="); found {
		replicas, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		service, err := project.GetService(name)
		if err != nil {
			return err
		}
		service.SetScale(replicas)
		project.Services[name] = service
		if err := project.CheckContainerNameUnicity(); err != nil {
			return err
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	return encoder.Encode(project)
}
