// Runs the code it is given on standard input, one JSON string a line: an async
// function's body, or a module's text, whose top-level `client` is global from then on.
// After each it prints one JSON line: `value` (what was returned) or `error`.
import { createRequire } from "node:module"
import { createInterface } from "node:readline"
import { transformSync } from "esbuild"

const require = createRequire(import.meta.url)
const AsyncFunction = (async () => {}).constructor

// What SDKs print is not an answer.
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
