// browser.mjs: Debian's Chromium, headless, through playwright-core.
import { defer, keepLog, slow } from './test.mjs';

// Gives playwright's Browser with newPage wrapped: console messages and page errors go to the test's log and to page.problems.
export async function startBrowser(t, { executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium', args = [] } = {}) {
  const { chromium } = await import('playwright-core'); // half a second of CPU: only who has a browser pays it
  const browser = await chromium.launch({
    executablePath,
    timeout: 30000 * slow,
    // The tests run as root in containers, where the browser's own sandbox cannot; /dev/shm is small there too.
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking', '--no-first-run', ...args],
  });
  let log = '';
  defer(t, () => browser.close());
  keepLog(t, 'browser', () => log);
  return {
    browser,
    // context: the windows of one share connections and the rest of a profile; content: the document that stands where
    // that URL leads, whatever the server said: the browser takes it for the server's.
    async open(url, { context, content } = {}) {
      context ??= await browser.newContext();
      const page = await context.newPage();
      page.setDefaultTimeout(10000 * slow);
      page.problems = [];
      page.on('console', (message) => {
        log += `${message.type()}: ${message.text()}\n`;
        if (message.type() === 'error') page.problems.push(message.text());
      });
      page.on('pageerror', (error) => {
        log += `page error: ${error.stack}\n`;
        page.problems.push(error.message);
      });
      await page.goto(url);
      if (content !== undefined) {
        page.problems.length = 0;
        await page.setContent(content);
      }
      return page;
    },
  };
}
