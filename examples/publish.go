// Publish each line of the standard input to a topic, from Go with the standard library.
// Shows: one POST for each message. If its outcome is unknown it is sent again with the same key, and
// the server publishes it once. API_KEY in the environment is sent to a server with access control.
// Run it while a server runs: seq 3 | go run examples/publish.go TOPIC
package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

const (
	server   = "http://localhost:8080"
	attempts = 8
)

var client = http.Client{Timeout: 10 * time.Second}

// post sends a request until it is answered, and returns the status and the body of the answer.
func post(path string, body any) (int, []byte) {
	data, err := json.Marshal(body)
	if err != nil {
		log.Fatal(err)
	}
	for attempt := range attempts {
		var status int
		var answer []byte
		status, answer, err = try(path, data)
		if err == nil && status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
			return status, answer
		}
		time.Sleep(250 * time.Millisecond << attempt)
	}
	log.Fatalf("%s does not answer: %v", server, err)
	return 0, nil
}

func try(path string, data []byte) (int, []byte, error) {
	request, err := http.NewRequest("POST", server+path, bytes.NewReader(data))
	if err != nil {
		return 0, nil, err
	}
	if key := os.Getenv("API_KEY"); key != "" {
		request.Header.Set("X-API-Key", key)
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

func main() {
	topic := "numbers"
	if len(os.Args) > 1 {
		topic = os.Args[1]
	}
	// A created topic lasts without subscribers.
	if status, answer := post("/topics", map[string]string{"name": topic}); status != 201 && status != 409 {
		log.Fatalf("%d %s", status, answer)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		message := map[string]string{"topic": topic, "payload": lines.Text(), "idempotency_key": rand.Text()}
		status, answer := post("/publish", message)
		var published struct{ Receivers int }
		if json.Unmarshal(answer, &published); status != 200 {
			log.Fatalf("%d %s", status, answer)
		}
		fmt.Println(lines.Text(), "->", published.Receivers, "subscribers")
	}
}
