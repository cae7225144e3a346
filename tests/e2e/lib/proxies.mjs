// proxies.mjs: real proxies that say who their clients are: nginx and HAProxy, with X-Forwarded-For or the PROXY protocol.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { httpRequest } from './http.mjs';
import { runNginx } from './nginx.mjs';
import { freePort, startProcess, temporaryFolder } from './process.mjs';
import { waitFor } from './wait.mjs';

const temporaryPaths = (dir) => ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${dir}/${name};`).join('\n  ');

const nginxHead = ({ dir, load = '' }) => `
${load}
${process.getuid?.() === 0 ? 'user root;' : ''}
daemon off;
worker_processes 1;
pid ${dir}/nginx.pid;
error_log ${dir}/error.log warn;
events { worker_connections 4096; }
`;

// nginx as an HTTP proxy. upstream: `server` of the upstream, such as unix:PATH.
export const startNginxForwarding = (t, target, { upstream = `127.0.0.1:${target.port}` } = {}) => runNginx(t, ({ dir, port }) => `${nginxHead({ dir })}
http {
  access_log off;
  ${temporaryPaths(dir)}
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream servers { server ${upstream}; keepalive 8; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Host inner;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }
  }
}
`);

// nginx passes bytes on, with a PROXY header (version 1) in front.
export const startNginxStream = (t, target) => runNginx(t, ({ dir, port }) => `${nginxHead({ dir, load: 'load_module /usr/lib/nginx/modules/ngx_stream_module.so;' })}
stream {
  server {
    listen 127.0.0.1:${port};
    proxy_protocol on;
    proxy_pass 127.0.0.1:${target.port};
  }
}
`);

// HAProxy. mode: tcp or http; server: options of its server line (send-proxy, send-proxy-v2, …), which is checked over HTTP; backend: lines of it.
export async function startHaproxy(t, target, { mode = 'tcp', server = '', backend = [] } = {}) {
  const dir = await temporaryFolder(t);
  const port = await freePort();
  const file = join(dir, 'haproxy.cfg');
  await writeFile(file, `
global
  maxconn 1000
defaults
  mode ${mode}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
frontend clients
  bind 127.0.0.1:${port}
  default_backend servers
backend servers
  option httpchk GET /readyz
  ${backend.join('\n  ')}
  server one 127.0.0.1:${target.port} check inter 100ms ${server}
`);
  const run = startProcess(t, process.env.HAPROXY ?? 'haproxy', ['-db', '-f', file], { name: 'haproxy' });
  const url = `http://127.0.0.1:${port}`;
  await waitFor(async () => {
    if (run.hasExited()) throw new Error(`haproxy ended: ${run.log()}`);
    return (await httpRequest(`${url}/livez`)).status === 200;
  }, { timeout: 10000, what: 'haproxy' });
  return { ...run, port, url };
}
