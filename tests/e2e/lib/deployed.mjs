// deployed.mjs: the load balancers of deploy/, as they are but for addresses (and, where a test machine is smaller, the number of descriptors).
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { httpRequest } from './http.mjs';
import { freePort, startProcess, temporaryFolder } from './process.mjs';
import { defer } from './test.mjs';
import { waitFor, within } from './wait.mjs';

export const DEPLOY = fileURLToPath(new URL('../../../deploy', import.meta.url));

// The file's text with each address of `hosts` ({ '10.0.0.11:3000': port }) and its own listener replaced. An address that is not in it is an error.
export async function deployed(file, { port, hosts }) {
  let text = await readFile(join(DEPLOY, file), 'utf8');
  const replace = (what, by) => {
    if (!text.includes(what)) throw new Error(`${file} has no ${what}`);
    text = text.replaceAll(what, by);
  };
  for (const [address, at] of Object.entries(hosts)) {
    replace(address, `127.0.0.1:${at}`);
    const pattern = address.replaceAll('.', '\\.');
    if (text.includes(pattern)) replace(pattern, `127\\.0\\.0\\.1:${at}`);
  }
  const left = /\b10\.0\.0\.\d+:\d+/.exec(text.replaceAll(/^\s*#.*$/gm, ''));
  if (left) throw new Error(`${file}: ${left[0]} is nobody`);
  if (file.startsWith('nginx/')) replace('listen 80;', `listen 127.0.0.1:${port};`);
  else replace('bind :80', `bind 127.0.0.1:${port}`);
  return text;
}

// Started, it answers; at the end of the test it is gone, and its workers with it.
async function serving(t, name, run, port) {
  defer(t, async () => {
    if (!run.hasExited()) run.kill('SIGTERM');
    await within(run.exited, `the end of ${name}`, 10000);
  });
  const url = `http://127.0.0.1:${port}`;
  await waitFor(async () => {
    if (run.hasExited()) throw new Error(`${name} ended: ${run.log()}`);
    return (await httpRequest(`${url}/livez`)).status === 200;
  }, { timeout: 15000, what: `${name} and a server behind it` });
  return { ...run, port, url };
}

// The main file that Debian's nginx has, with the deployed one where conf.d's are.
export const nginxMain = (dir, site) => `
${process.getuid?.() === 0 ? 'user root;' : ''}
daemon off;
worker_processes 2;
pid ${dir}/nginx.pid;
error_log ${dir}/error.log warn;
events { worker_connections 4096; }
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${dir}/${name};`).join('\n  ')}
  include ${site};
}
`;

export async function startDeployedNginx(t, file, hosts) {
  const dir = await temporaryFolder(t);
  const port = await freePort();
  const [main, site] = [join(dir, 'nginx.conf'), join(dir, 'site.conf')];
  await writeFile(site, await deployed(file, { port, hosts }));
  await writeFile(main, nginxMain(dir, site));
  const run = startProcess(t, process.env.NGINX ?? 'nginx', ['-c', main, '-p', dir, '-e', join(dir, 'error.log')], { name: 'nginx' });
  return serving(t, 'nginx', run, port);
}

export async function startDeployedHaproxy(t, file, hosts) {
  const dir = await temporaryFolder(t);
  const port = await freePort();
  const path = join(dir, 'haproxy.cfg');
  const text = (await deployed(file, { port, hosts })).replace('127.0.0.1:10000', `127.0.0.1:${await freePort()}`);
  await writeFile(path, text.replace('maxconn 100000', 'maxconn 4000'));
  const run = startProcess(t, process.env.HAPROXY ?? 'haproxy', ['-db', '-f', path], { name: 'haproxy' });
  return serving(t, 'haproxy', run, port);
}
