// What tests/web_module_tests.cpp asks of the page of the module, in a real browser:
//
//   node web_page.mjs MODULE CHROMIUM PACKAGES FOLDER PORT SERVER
//
// FOLDER has a small random model and adapters, of which some are to be refused; SERVER serves the
// same model. Prints what it measured; ends with 1 and the reason where something is not as it
// should be.
import assert from 'node:assert/strict';
import {readFileSync, truncateSync, copyFileSync} from 'node:fs';
import {createRequire} from 'node:module';

import {serve} from '../scripts/lib/serve_web.mjs';

const [moduleFolder, chromiumPath, packages, folder, port, server] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const {chromium} = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const kPatienceMs = 30_000;
const kPlugs = 300;
const kTold = 'It is up there.';

copyFileSync(`${folder}/model.gguf`, `${folder}/truncated.gguf`);
truncateSync(`${folder}/truncated.gguf`, 100_000);
const notFinite = readFileSync(`${folder}/adapter.gguf`);
notFinite.fill(0xff, notFinite.length - 64);  // halves that are no number
const files = Object.fromEntries([
  'model.gguf', 'truncated.gguf', 'other-architecture.gguf', 'adapter.gguf', 'further.gguf',
  'other-rank.gguf', 'other-base.gguf'].map(name => [`/${name}`, `${folder}/${name}`]));
const site = await serve(moduleFolder, files, Number(port));
const url = `http://localhost:${port}/`;

async function checkAccess(page, state) {
  await page.evaluate(axe);
  const {violations} = await page.evaluate(() => globalThis.axe.run());
  const bad = violations.filter(({impact}) => ['serious', 'critical'].includes(impact));
  assert.equal(bad.length, 0, `${state}: ${JSON.stringify(bad.map(({id, help}) => [id, help]))}`);
}

async function ask(page, question) {
  await page.locator('#question').fill(question);
  await page.locator('#status').evaluate(status => { status.textContent = ''; });
  await page.locator('#ask button').click();
  await page.locator('#status', {hasText: 'The answer is there.'}).waitFor();
  return page.locator('.answer .text').first().textContent();
}

// A person at the page: loads, asks, corrects with the network off until the answer is as it should
// be, exports and keeps it, and takes over what the server learns.
async function usePage(page, context) {
  await page.goto(`${url}?learningRate=0.02&warmupSteps=0&stepTokensMax=512`);
  await checkAccess(page, 'empty');
  await page.locator('#language').selectOption('zh');
  await page.locator('#ask button', {hasText: '提问'}).waitFor();
  assert.equal(await page.locator('html').getAttribute('lang'), 'zh');
  assert.equal(await page.evaluate(async () => {
    const {TEXTS} = await import('./device_texts.js');
    const named = [document, document.getElementById('answer-template').content].flatMap(
        root => [...root.querySelectorAll('[data-text]')].map(one => one.dataset.text));
    const lacks = [...named, ...Object.keys(TEXTS.en), ...Object.keys(TEXTS.zh)].filter(
        name => typeof TEXTS.en[name] !== typeof TEXTS.zh[name] || TEXTS.en[name] === undefined);
    return lacks.join();
  }), '');
  await checkAccess(page, 'empty, in Chinese');
  await page.locator('#language').selectOption('en');
  await page.locator('#load button').click();
  await page.locator('#status', {hasText: 'The model is loaded.'}).waitFor();
  await page.locator('#documents summary').click();
  await page.locator('#document-id').fill('moon');
  await page.locator('#document-text').fill('The moon rises at nine.');
  await page.locator('#document button').click();
  await page.locator('#status', {hasText: 'Added, 1 passages.'}).waitFor();

  await context.setOffline(true);
  const question = 'Where is it?';
  let answer = await ask(page, question);
  const first = answer;
  let corrections = 0;
  for (; answer !== kTold && corrections < 40; ++corrections) {
    const item = page.locator('.answer').first();
    await item.locator('.correction textarea').fill(kTold);
    await item.locator('.correction button').click();
    await item.locator('.told', {hasText: /^(?!Learning).+/}).waitFor();
    assert.match(await item.locator('.told').textContent(), /^Learnt/);
    answer = await ask(page, question);
  }
  assert.equal(answer, kTold, `after ${corrections} corrections`);
  assert.notEqual(first, kTold);
  console.log(`offline: after ${corrections} corrections it says "${answer}"`);
  await page.locator('.answer .up').first().click();
  await page.locator('.told', {hasText: /^Learnt|^Set aside/}).first().waitFor();
  await ask(page, 'When does the moon rise?');
  assert.equal(await page.locator('.answer .origin').first().textContent(), 'moon, version 1');
  await page.locator('#unplug').click();
  await page.locator('#adapter', {hasText: 'by the base model'}).waitFor();
  assert.equal(await ask(page, question), first);
  const download = page.waitForEvent('download');
  await page.locator('#export').click();
  const exported = readFileSync(await (await download).path());
  const lessons = page.waitForEvent('download');
  await page.locator('#export-lessons').click();
  copyFileSync(await (await lessons).path(), `${folder}/lessons.jsonl`);
  await page.locator('#save').click();
  await page.locator('#status', {hasText: 'Kept'}).waitFor();
  await page.locator('#plug').setInputFiles(`${folder}/other-rank.gguf`);
  await page.locator('#status', {hasText: /rank/}).waitFor();
  await page.locator('#plug').setInputFiles({name: 'a.gguf', mimeType: '', buffer: exported});
  await page.locator('#adapter', {hasText: 'Plugged in'}).waitFor();
  await checkAccess(page, 'used');
  await context.setOffline(false);

  // What the server learns while the page is open.
  await page.locator('#server').fill(server);
  await page.locator('#follow button').click();
  await teachServer('one');
  await page.locator('#adapter', {hasText: 'Version 1 of the server'}).waitFor();
  await teachServer('two');
  await page.locator('#adapter', {hasText: 'Version 2 of the server'}).waitFor();
  console.log(await page.locator('#adapter').textContent());
  assert.equal(await page.locator('.answer .text').last().textContent(), first);  // nothing is lost

  // What was kept is there in a new page.
  await page.reload();
  await page.locator('#load button').click();
  await page.locator('#status', {hasText: 'The model is loaded.'}).waitFor();
  await page.locator('#restore').click();
  await page.locator('#status', {hasText: 'goes on'}).waitFor();
  assert.equal(await ask(page, question), kTold);
  const kept = page.waitForEvent('download');
  await page.locator('#export-lessons').click();
  const linesOf = path => readFileSync(path, 'utf8').trimEnd().split('\n').slice(0, -1);
  const before = linesOf(`${folder}/lessons.jsonl`);
  assert.deepEqual(linesOf(await (await kept).path()).slice(0, before.length), before);
  return exported;
}

async function post(path, body, id) {
  const response = await fetch(server + path, {
    method: 'POST', body: JSON.stringify(body),
    headers: {'Content-Type': 'application/json', 'x-nudge-event-id': id},
  });
  assert.equal(response.status, 200, await response.clone().text());
  return response.json();
}

async function teachServer(name) {
  const {data: [{id: model}]} = await (await fetch(`${server}/v1/models`)).json();
  await post('/v1/chat/completions',
             {model, max_tokens: 8, messages: [{role: 'user', content: `What of ${name}?`}]}, name);
  await post('/v1/feedback', {answer_id: name, rating: 'down', correction: `It is ${name}.`},
             `about-${name}`);
}

// Runs in the page, against nudge.js: what no button does.
async function useModule(page, exported) {
  await page.goto(url);
  return page.evaluate(async ({exported, notFinite, kPlugs, url}) => {
    const {load, NudgeError} = await import('./nudge.js');
    const expect = (holds, what) => { if (!holds) throw new Error(what); };
    const refuses = async (call, sentence, what = sentence) => {
      const error = await call().then(() => null, problem => problem);
      expect(error instanceof NudgeError && sentence.test(error.message), `${what}: ${error}`);
    };
    const bytesOf = async name => (await fetch(name)).arrayBuffer();
    const told = [];

    // Models that cannot be used.
    await refuses(() => load('nowhere.gguf'), /answers 404/);
    await refuses(() => load('truncated.gguf'), /truncated|too short|ends/, 'truncated');
    await refuses(() => load('other-architecture.gguf'), /architecture/);
    await refuses(() => load(new ArrayBuffer(10)), /GGUF/);
    await refuses(() => load('model.gguf', {rank: 65}), /rank/);
    await refuses(() => load('model.gguf', {signal: AbortSignal.abort()}), /stopped/);

    const progress = [];
    const device = await load('model.gguf', {
      dictionaries: true, warmupSteps: 0, learningRate: 0.02, silenceMs: 20_000,
      anchors: [{question: 'Is it?', answer: 'It is.'}, {question: 'Really?', answer: 'Yes.'}],
      onProgress: one => progress.push(one)});
    expect(progress.some(({bytes, bytesTotal}) => bytes === bytesTotal), 'no progress');
    expect(await device.addDocument('zh', '月亮在九点升起。') === 1, 'a document');
    expect((await device.search('月亮')).length === 1, 'Chinese words');
    expect(await device.removeDocument('zh') === 1, 'a document goes');

    // Plugged while an answer is being given: that one goes on as it began, the next one is by it.
    const question = {tokensMax: 60};
    const base = (await device.ask('Who?', question)).text;
    const adapter = await bytesOf('adapter.gguf');
    let pieces = 0;
    let plugged = null;
    const during = await device.ask('Who?', {...question, onToken: () => {
      if (++pieces === 3) plugged = device.plug(adapter);
    }});
    expect(during.text === base, 'an adapter changed the answer that was being given');
    const {digest, plugMs} = await plugged;
    const by = (await device.ask('Who?', question)).text;
    expect(by !== base, 'the adapter changes nothing');
    await device.unplug();
    expect((await device.ask('Who?', question)).text === base, 'not the base model again');
    told.push(`plug of ${adapter.byteLength} bytes: ${plugMs.toFixed(1)} ms`);
    await device.plug('adapter.gguf');

    // Adapters that are refused leave the one that is plugged.
    const broken = adapter.slice(0);
    new Uint8Array(broken)[broken.byteLength >> 1] ^= 1;
    for (const [what, call, sentence] of [
      ['broken', () => device.plug(broken), /truncated or altered/],
      ['cut', () => device.plug(adapter.slice(0, -100)), /truncated or altered/],
      ['not finite', () => device.plug(new Uint8Array(notFinite)), /truncated or altered|finite/],
      ['other rank', () => device.plug('other-rank.gguf'), /rank/],
      ['other base', () => device.plug('other-base.gguf'), /made for/],
      ['not announced', () => device.plug(adapter, {sha256: '0'.repeat(64)}), /SHA-256/],
      ['no file', () => device.plug('nowhere.gguf'), /answers 404/],
      ['a model', () => device.plug('model.gguf'), /not write|at most/],
      ['nothing', () => device.plug(new ArrayBuffer(0)), /GGUF/],
    ]) {
      await refuses(call, sentence, what);
      expect((await device.state()).digest === digest, `${what}: the adapter is another`);
    }
    expect((await device.ask('Who?', question)).text === by, 'a refusal changed the answer');

    // Many plugs: memory stays as it is.
    const further = await bytesOf('further.gguf');
    const times = [];
    const plugAndAsk = async i => {
      times.push((await device.plug(i % 2 ? adapter : further)).plugMs);
      await device.ask('Who?', {tokensMax: 1});
    };
    for (let i = 0; i < 10; ++i) await plugAndAsk(i);
    const {memoryBytes} = await device.state();
    times.length = 0;
    for (let i = 0; i < kPlugs; ++i) await plugAndAsk(i);
    expect((await device.state()).memoryBytes === memoryBytes, 'plugs take memory');
    times.sort((x, y) => x - y);
    told.push(`${kPlugs} plugs: median ${times[kPlugs >> 1].toFixed(2)} ms, longest ` +
              `${times.at(-1).toFixed(2)} ms, ${memoryBytes} bytes before and behind`);

    // A lesson tells how far it is and can be stopped; so can an answer.
    const answer = await device.ask('Who?', question);
    const before = (await device.state()).digest;
    const ending = new AbortController();
    const lesson = device.learn(answer, {correction: 'Nobody.', signal: ending.signal});
    ending.abort();
    await refuses(() => lesson, /stopped/);
    expect((await device.state()).digest === before, 'what was stopped has changed something');
    await refuses(() => device.learn(answer, {}), /says nothing/);
    await refuses(() => device.learn(999, {rating: 'up'}), /not among the last/);
    const taught = await device.learn(answer, {rating: 'down', correction: 'Nobody.'});
    expect(taught.learnt && taught.nllAfter < taught.nllBefore, JSON.stringify(taught));
    const stopping = new AbortController();
    const asked = device.ask('Who?', {tokensMax: 400, plugged: false, signal: stopping.signal});
    stopping.abort();
    await refuses(() => asked, /stopped/);

    // Kept, with another page at the same store; a worker that dies says so, and all is there again.
    await device.save('one');
    const {digest: kept} = await device.state();
    await device.importAdapter(new Uint8Array(exported));
    const other = await load('model.gguf', {warmupSteps: 0, learningRate: 0.02});
    await refuses(() => other.save('one'), /another page/);
    await refuses(() => other.restore('two'), /nothing is saved/);
    await refuses(() => other.save('../x'), /a name has/);
    await other.restore('one');
    expect((await other.state()).digest === kept, 'restored another');
    await other.save('one');
    await refuses(() => device.save('one'), /another page/);
    other.close();
    await refuses(() => other.state(), /closed/);

    // The newest save is damaged: the one before is taken.
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('nudge');
    const file = await (await root.getDirectoryHandle('one')).getFileHandle('b');
    const writable = await file.createWritable({keepExistingData: true});
    await writable.write({type: 'write', position: 5000, data: new Uint8Array(16)});
    await writable.close();
    const again = await device.restore('one');
    expect(again.damaged === 1 && again.digest === kept, JSON.stringify(again));
    window.device = device;
    return told;
  }, {exported: [...exported], notFinite: [...notFinite], kPlugs, url});
}

// A worker that dies in the middle of an answer: the call ends by a sentence, and a new one goes on.
async function crash(page) {
  const pending = page.evaluate(async () => {
    for (let i = 0; i < 1000; ++i) {
      try {
        await window.device.ask('Who?', {tokensMax: 400});
      } catch (error) {
        return error.message;
      }
    }
    return 'it answered';
  });
  await new Promise(resolve => setTimeout(resolve, 50));
  await page.workers()[0].evaluate(() => setTimeout(() => { throw new Error('gone'); }));
  assert.match(await pending, /the worker failed: .*gone; load the model again/);
  assert.equal(await page.evaluate(async () => {
    const {load} = await import('./nudge.js');
    const device = await load('model.gguf', {silenceMs: 1000});
    const {number} = await device.restore('one');
    window.device = device;
    return number;
  }), 1);
  // One that says nothing any more.
  await page.workers()[0].evaluate(() => { self.onmessage = null; });
  assert.match(await page.evaluate(() => window.device.state().then(() => '', error => error.message)),
               /said nothing for 1 seconds; load the model again/);
}

const browser = await chromium.launch({
  executablePath: chromiumPath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
});
try {
  const context = await browser.newContext({viewport: {width: 390, height: 844}, acceptDownloads: true});
  const page = await context.newPage();
  page.setDefaultTimeout(kPatienceMs);
  const faults = [];
  page.on('pageerror', error => faults.push(String(error)));
  const exported = await usePage(page, context);
  for (const line of await useModule(page, exported)) console.log(line);
  await crash(page);
  assert.deepEqual(faults, []);
} catch (error) {
  console.error(error.stack);
  process.exitCode = 1;
} finally {
  await browser.close();
  site.close();
}
