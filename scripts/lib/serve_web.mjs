// The page of the module for browsers, on this machine alone: a folder, and a model beside it.
//
//   node serve_web.mjs FOLDER MODEL PORT
//
// Its headers make the page cross-origin isolated, which lets it end a lesson that is going on.
import {createReadStream, existsSync, realpathSync, statSync} from 'node:fs';
import {createServer} from 'node:http';
import {extname, join, sep} from 'node:path';
import {pathToFileURL} from 'node:url';

const kTypes = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.wasm': 'application/wasm',
};

// `files`: further ones, by their path in the address. Resolves once it listens.
export function serve(folder, files, port, {isolated = true} = {}) {
  const root = realpathSync(folder);
  const server = createServer((request, response) => {
    let path = '';
    try {
      path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    } catch {
      response.writeHead(400).end('no address');
      return;
    }
    const file = files[path] ?? join(root, path === '/' ? 'device.html' : path);
    const ours = path in files || (file.startsWith(root + sep) && existsSync(file));
    if (!ours || !statSync(file).isFile()) {
      response.writeHead(404).end('not here');
      return;
    }
    response.writeHead(200, {
      'Content-Type': kTypes[extname(file)] ?? 'application/octet-stream',
      'Content-Length': statSync(file).size,
      'Cache-Control': 'no-cache',
      ...(isolated ? {'Cross-Origin-Opener-Policy': 'same-origin',
                      'Cross-Origin-Embedder-Policy': 'require-corp'} : {}),
    });
    createReadStream(file).on('error', () => response.destroy()).pipe(response);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [folder, model, port] = process.argv.slice(2);
  await serve(folder, {'/model.gguf': model}, Number(port));
  console.log(`http://localhost:${port}/`);
}
