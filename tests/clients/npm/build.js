// node build.js BUNDLER PROJECT: bundle entry.js of a project into dist/bundle.js. Says nothing, unless the bundler
// has a complaint.
const bundlers = {
  async esbuild(root, entry, filename) {
    const { build } = await import("esbuild");
    await build({ entryPoints: [entry], outfile: `${root}/dist/${filename}`, bundle: true, format: "esm", logLevel: "warning" });
  },

  async rollup(root, entry, filename) {
    const { rollup } = await import("rollup");
    const { nodeResolve } = await import("@rollup/plugin-node-resolve");
    const bundle = await rollup({ input: entry, plugins: [nodeResolve({ browser: true })] });
    await bundle.write({ file: `${root}/dist/${filename}`, format: "es" });
  },

  async vite(root, entry, filename) {
    const { build } = await import("vite");
    const rolldownOptions = { input: entry, output: { entryFileNames: filename } };
    await build({ root, configFile: false, logLevel: "warn", build: { rolldownOptions } });
  },

  async webpack(root, entry, filename) {
    const { default: webpack } = await import("webpack");
    await new Promise((resolve, reject) => {
      webpack({ mode: "production", context: root, entry, output: { path: `${root}/dist`, filename } }, (error, stats) => {
        if (error) return reject(error);
        if (stats.hasErrors() || stats.hasWarnings()) console.error(stats.toString("errors-warnings"));
        resolve();
      });
    });
  },
};

const [bundler, root] = process.argv.slice(2);
await bundlers[bundler](root, `${root}/entry.js`, "bundle.js");
