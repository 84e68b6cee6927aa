// node build.js BUNDLER FILE: bundle entry.js into FILE. Says nothing, unless the bundler has a complaint.
import { basename, dirname } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const entry = `${here}/entry.js`;

const bundlers = {
  async esbuild(path, filename) {
    const { build } = await import("esbuild");
    await build({ entryPoints: [entry], outfile: `${path}/${filename}`, bundle: true, format: "esm", logLevel: "warning" });
  },

  async vite(path, filename) {
    const { build } = await import("vite");
    const rolldownOptions = { input: entry, output: { entryFileNames: filename } };
    await build({ root: here, configFile: false, logLevel: "warn", build: { outDir: path, emptyOutDir: false, rolldownOptions } });
  },

  async webpack(path, filename) {
    const { default: webpack } = await import("webpack");
    await new Promise((resolve, reject) => {
      webpack({ mode: "production", context: here, entry, output: { path, filename } }, (error, stats) => {
        if (error) return reject(error);
        if (stats.hasErrors() || stats.hasWarnings()) console.error(stats.toString("errors-warnings"));
        resolve();
      });
    });
  },
};

const [bundler, file] = process.argv.slice(2);
await bundlers[bundler](dirname(file), basename(file));
