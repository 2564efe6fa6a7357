// Like program.mjs, but runs the code in a page of a headless Chromium. Code with imports
// is bundled into a new page; other code runs in the current page. The page and the
// collector have different ports, so the browser sends CORS requests.
import { createServer } from "node:http"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { buildSync } from "esbuild"
import { chromium } from "playwright-core"

let script = ""
const server = createServer((request, response) => {
  if (request.url === "/script.js") {
    response.setHeader("Content-Type", "text/javascript")
    response.end(script)
  } else {
    response.setHeader("Content-Type", "text/html; charset=utf-8")
    response.end('<title>Pricing</title><script src="/script.js"></script>')
  }
})
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
const address = `http://127.0.0.1:${server.address().port}/pricing?utm_source=letter`

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  // Root cannot use the sandbox, and the page is our own. PostHog's SDK sends nothing
  // from a browser that reports automation.
  args: ["--no-sandbox", "--disable-blink-features=AutomationControlled"],
})
const context = await browser.newContext({
  userAgent: `Mozilla/5.0 (X11; Linux x86_64) Chrome/${browser.version()} Safari/537.36`,
})
const page = await context.newPage()
page.on("console", (message) => console.error(message.text()))
page.on("pageerror", (error) => console.error(error))

const run = async (code) => {
  if (!/^import /m.test(code)) return page.evaluate(`(async () => {${code}})()`)
  const built = buildSync({
    stdin: {
      contents: `${code};globalThis.client = client`,
      resolveDir: fileURLToPath(new URL(".", import.meta.url)),
    },
    bundle: true,
    write: false,
    format: "iife",
    logLevel: "error",
  })
  script = built.outputFiles[0].text
  await page.goto(address)
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
await browser.close()
server.close()
