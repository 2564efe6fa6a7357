// Runs code from standard input, one JSON string per line: the body of an async function,
// or a module, whose top-level `client` becomes global.
// Prints one JSON line for each: `value` (the returned value) or `error`.
import { createRequire } from "node:module"
import { createInterface } from "node:readline"
import { transformSync } from "esbuild"

const require = createRequire(import.meta.url)
const AsyncFunction = (async () => {}).constructor

// Standard output is for answers; SDKs print to standard error.
console.log = console.info = console.debug = console.error

const run = (code) => {
  if (!/^import /m.test(code)) return new AsyncFunction(code)()
  const { code: plain } = transformSync(code, { format: "cjs" })
  new Function("require", `${plain};globalThis.client = client`)(require)
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    answer = { value: (await run(JSON.parse(line))) ?? null }
  } catch (error) {
    answer = { error: String(error?.stack ?? error) }
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}
