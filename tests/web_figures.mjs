// The figures of docs/BROWSER.md, of the small model on a page in headless Chromium:
//
//   node web_figures.mjs MODULE CHROMIUM PACKAGES MODEL PORT
//
// scripts/web --figures runs it. Prints a line each; how fast the machine is and what else it does shows in
// them.
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {gzipSync} from 'node:zlib';

import {serve} from '../scripts/lib/serve_web.mjs';

const [moduleFolder, chromiumPath, packages, model, port] = process.argv.slice(2);
const {chromium} = createRequire(`${packages}/package.json`)('playwright-core');

for (const name of ['nudge_module.wasm', 'nudge_dictionaries.dat']) {
  const bytes = readFileSync(`${moduleFolder}/${name}`);
  console.log(`${name}: ${bytes.length} bytes, gzipped ${gzipSync(bytes, {level: 9}).length}`);
}
const site = await serve(moduleFolder, {'/model.gguf': model}, Number(port));
const browser = await chromium.launch({
  executablePath: chromiumPath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
});
try {
  const page = await (await browser.newContext()).newPage();
  page.on('console', message => console.log(message.text()));
  await page.goto(`http://localhost:${port}/`);
  await page.evaluate(async () => {
    const {load} = await import('./nudge.js');
    const timed = async (what, body) => {
      const begun = performance.now();
      const value = await body();
      console.log(`${what}: ${(performance.now() - begun).toFixed(0)} ms`);
      return value;
    };
    const memory = async what =>
      console.log(`memory, ${what}: ${((await device.state()).memoryBytes / 1e6).toFixed(0)} MB`);
    const device = await timed('load, from this machine', () => load('model.gguf'));
    await memory('loaded');
    const question = 'What is the capital of France?';
    const answer = await timed('first answer', () => device.ask(question, {tokensMax: 16}));
    console.log(`it says: ${answer.text}`);
    await timed(`an answer of ${answer.tokens} tokens, its prompt known`,
                () => device.ask(question, {tokensMax: 16}));
    await timed('a question of 250 words, until the first token',
                () => device.ask('word '.repeat(250), {tokensMax: 1}));
    await memory('behind answers');
    const feedback = {rating: 'down', correction: 'Paris, of course.'};
    for (const which of ['first', 'second', 'third']) {
      const {tokens} = await timed(`${which} lesson of a correction`,
                                   () => device.learn(answer, feedback));
      console.log(`  ${tokens} tokens through the model`);
    }
    await memory('behind three lessons');
    const adapter = await timed('export', () => device.exportAdapter());
    console.log(`  ${adapter.length} bytes`);
    await timed('save', () => device.save('figures'));
    await timed('restore', () => device.restore('figures'));
    const times = [];
    for (let i = 0; i < 20; ++i) times.push((await device.plug(adapter)).plugMs);
    await memory('behind 20 plugs');
    for (let i = 0; i < 80; ++i) times.push((await device.plug(adapter)).plugMs);
    await memory('behind 100 plugs');
    times.sort((x, y) => x - y);
    console.log(`from bytes to plugged, 100 times: median ${times[50].toFixed(0)} ms, longest ` +
                `${times[99].toFixed(0)} ms`);
  });
} catch (error) {
  console.error(error.stack);
  process.exitCode = 1;
} finally {
  await browser.close();
  site.close();
}
