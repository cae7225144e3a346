// http.mjs: plain requests, one connection each, with any header (fetch() would not send a foreign Host).
import { request } from 'node:http';
import { slow } from './test.mjs';

// → { status, headers, body }. host and port may differ from the URL's through `connect`: { host, port, localAddress }.
export function httpRequest(url, { method = 'GET', headers = {}, body, connect = {}, timeout = 5000 } = {}) {
  const target = new URL(url);
  return new Promise((resolve, reject) => {
    const req = request(
      { host: target.hostname.replace(/^\[|\]$/g, ''), port: target.port, path: target.pathname + target.search, method, headers, agent: false, ...connect },
      (res) => {
        const chunks = [];
        res.on('data', (chunk) => chunks.push(chunk));
        res.on('error', reject);
        res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(chunks).toString() }));
      },
    );
    req.setTimeout(timeout * slow, () => req.destroy(new Error(`no answer from ${url} in ${timeout * slow} ms`)));
    req.on('error', reject);
    req.end(body);
  });
}

// The body of an answer that must be 200.
export async function fetchText(url, options) {
  const { status, body } = await httpRequest(url, options);
  if (status !== 200) throw new Error(`${url}: ${status} ${body.slice(0, 200)}`);
  return body;
}
