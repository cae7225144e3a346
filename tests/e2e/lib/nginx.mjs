// nginx.mjs: a real nginx in front of a server under test, as people write it down, with a pool of kept connections and without stickiness.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { httpRequest } from './http.mjs';
import { freePort, startProcess, temporaryFolder } from './process.mjs';
import { defer } from './test.mjs';
import { waitFor, within } from './wait.mjs';

// pool: true, the recommended form: Connection is empty unless the client upgrades; false: every request says `Connection: upgrade`.
const configuration = ({ dir, port, target, pool, workers }) => `
${process.getuid?.() === 0 ? 'user root;' : ''}
daemon off;
worker_processes ${workers};
pid ${dir}/nginx.pid;
error_log ${dir}/error.log warn;
events { worker_connections 4096; }
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${dir}/${name};`).join('\n  ')}
  map $http_upgrade $connection_upgrade { default upgrade; '' ${pool ? "''" : 'upgrade'}; }
  upstream servers {
    server 127.0.0.1:${target};
    ${pool ? 'keepalive 32;' : ''}
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_read_timeout 100s;
    }
  }
}
`;

// Starts one in front of the target's port. Gives the process and { port, url }.
export function startNginx(t, target, { pool = true, workers = 2 } = {}) {
  return runNginx(t, ({ dir, port }) => configuration({ dir, port, target: target.port, pool, workers }));
}

// The same with a configuration of one's own: write({ dir, port }) gives its text. It has to be in the foreground and to answer HTTP on that port of 127.0.0.1.
export async function runNginx(t, write) {
  const dir = await temporaryFolder(t);
  const port = await freePort();
  const file = join(dir, 'nginx.conf');
  await writeFile(file, write({ dir, port }));
  const run = startProcess(t, process.env.NGINX ?? 'nginx', ['-c', file, '-p', dir, '-e', join(dir, 'error.log')], { name: 'nginx' });
  // Killed, its workers would stay.
  defer(t, async () => {
    if (!run.hasExited()) run.kill('SIGTERM');
    await within(run.exited, 'the end of nginx', 10000);
  });
  const url = `http://127.0.0.1:${port}`;
  await waitFor(async () => {
    if (run.hasExited()) throw new Error(`nginx ended: ${run.log()}`);
    return (await httpRequest(`${url}/`)).status > 0;
  }, { timeout: 10000, what: 'nginx' });
  return { ...run, port, url };
}
