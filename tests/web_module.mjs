// What tests/web_module_tests.cpp asks of the module, under node: the folder of the module, then one
// folder a case, with model.gguf, adapter.gguf (to begin with) and lesson.json. Prints a line each:
// the folder, the SHA-256 of the exported adapter, and of the logits of an answer by it and of one by the
// base model. What is not as it should be ends it with 1.
import assert from 'node:assert/strict';
import {createHash} from 'node:crypto';
import {existsSync, readFileSync, writeFileSync} from 'node:fs';

const [moduleFolder, ...folders] = process.argv.slice(2);
const {load, NudgeError} = await import(`file://${moduleFolder}/nudge.js`);
const wasmBinary = readFileSync(`${moduleFolder}/nudge_module.wasm`);
const ask = (learner, prompt, options) => {
  const hash = createHash('sha256');
  const told = [];
  const tokens = learner.answer(prompt, {...options, onToken: (token, logits) => {
    told.push(token);
    hash.update(new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength));
  }});
  assert.deepEqual(told, tokens);
  return {tokens, logits: hash.digest('hex')};
};
const sha256 = bytes => createHash('sha256').update(bytes).digest('hex');

// Text as the server has it; what is taught by text changes the answer, and without the adapter the base
// model says what it said.
function expectText(learner, {chats, asked, answer, base, taught, steps, tokensMax, digest}, adapter, refuse) {
  for (const {messages, tokens} of chats) assert.deepEqual(learner.chatTokens(messages), tokens);
  assert.deepEqual(learner.chatTokens(asked), chats[0].tokens);
  refuse(() => learner.chatTokens([{role: 'tool', content: 'x'}]), /role/);
  refuse(() => learner.ask('word '.repeat(1000)), /there is room for 1 to/);
  const say = () => {
    let told = '';
    const text = learner.ask(asked, {tokensMax, onText: piece => told += piece});
    assert.equal(told, text);
    return text;
  };
  learner.unplug();
  assert.equal(say(), base);
  learner.plug(adapter);
  for (let step = 0; step < steps; ++step) learner.learn([{asked, answer}]);
  assert.equal(learner.digest, digest);
  assert.equal(say(), taught);
  learner.unplug();
  assert.equal(say(), base);
  learner.setSystem('Be brief.');
  assert.deepEqual(learner.chatTokens(chats[1].messages.slice(1)), chats[1].tokens);
}

let ofAnotherModel;
for (const folder of folders) {
  const model = readFileSync(`${folder}/model.gguf`);
  const {options, sequences, steps, imports, prompt, answerTokens} = JSON.parse(readFileSync(`${folder}/lesson.json`));
  const learner = await load(model, {...options, wasmBinary});
  assert.equal(learner.baseSha256, sha256(model));
  learner.importAdapter(readFileSync(`${folder}/adapter.gguf`));
  for (let step = 0; step < steps; ++step) learner.learn(sequences);
  const exported = learner.exportAdapter({f16: false});
  writeFileSync(`${folder}/exported.gguf`, exported);

  // Answers: by the base model exactly where the adapter is not plugged, or is new.
  const plugged = ask(learner, prompt, {tokensMax: answerTokens});
  const base = ask(learner, prompt, {tokensMax: answerTokens, plugged: false});
  console.log(folder, sha256(exported), plugged.logits, base.logits);
  assert.deepEqual(ask(learner, prompt, {tokensMax: answerTokens}), plugged);
  const [first, end] = [plugged.tokens[0], plugged.tokens.find(t => t !== plugged.tokens[0])];
  const behind = plugged.tokens.slice(0, plugged.tokens.indexOf(end));
  assert.deepEqual(learner.answer(prompt, {tokensMax: answerTokens, ends: [end]}),
                   end === undefined ? plugged.tokens : behind);
  assert.deepEqual(learner.answer(prompt, {ends: [first]}), []);
  assert.equal(learner.answer(prompt, {tokensMax: 1000}).length,
               options.windowTokens - prompt.length);  // until the window is full
  const goesOn = [...prompt, ...plugged.tokens.slice(0, 5)];
  assert.deepEqual(learner.answer(goesOn, {tokensMax: answerTokens - 5}), plugged.tokens.slice(5));

  // What is refused leaves the adapter as it was, and says why.
  const {digest} = learner;
  const refuse = (call, sentence) => {
    assert.throws(call, error => error instanceof NudgeError && sentence.test(error.message));
    assert.equal(learner.digest, digest);
  };
  refuse(() => learner.importAdapter(exported.slice(0, -1000)), /truncated or altered/);
  refuse(() => learner.importAdapter(exported.map((byte, i) => i === 5000 ? byte ^ 1 : byte)),
         /truncated or altered/);
  refuse(() => learner.importAdapter(new Uint8Array(100)), /not a GGUF file/);
  refuse(() => learner.importAdapter(new Uint8Array(0)), /not a GGUF file/);
  refuse(() => learner.importAdapter(model), /not write|at most/);
  if (ofAnotherModel) refuse(() => learner.importAdapter(ofAnotherModel), /made for (the|a) base/);
  ofAnotherModel = exported;
  refuse(() => learner.answer([]), /there is room for 1 to/);
  refuse(() => learner.answer(Array(options.windowTokens).fill(1)), /there is room for 1 to/);
  refuse(() => learner.answer([1, 1e6]), /vocabulary/);
  refuse(() => learner.answer([-1]), /vocabulary/);
  assert.deepEqual(ask(learner, prompt, {tokensMax: answerTokens}), plugged);
  refuse(() => learner.learn([]), /a step without sequences/);
  refuse(() => learner.learn([{tokens: [1, 2, 3], completionBegin: 3}]), /without completion/);
  refuse(() => learner.learn([{tokens: [1, 2, 1e6], completionBegin: 1}]), /vocabulary/);
  refuse(() => learner.learn([{tokens: [1, 2], completionBegin: 1, objective: 'up'}]), /objective/);
  refuse(() => learner.learn([{tokens: [1, 2], completionBegin: 1, weight: NaN}]), /not finite/);

  // Export, reset, import: the same values; and many of them take no memory.
  const f16 = learner.exportAdapter();
  learner.reset();
  assert.notEqual(learner.digest, digest);
  assert.deepEqual(ask(learner, prompt, {tokensMax: answerTokens}), base);
  learner.importAdapter(exported);
  assert.equal(learner.digest, digest);
  const importAndAnswer = i => {
    learner.importAdapter(i % 2 ? exported : f16);
    learner.answer(prompt.slice(0, 3), {tokensMax: 2});
  };
  for (let i = 0; i < 10; ++i) importAndAnswer(i);
  const {memoryBytes} = learner;
  for (let i = 0; i < imports; ++i) importAndAnswer(i);
  assert.equal(learner.memoryBytes, memoryBytes);
  assert.equal(learner.digest, digest);
  assert.deepEqual(ask(learner, prompt, {tokensMax: answerTokens}), plugged);
  if (existsSync(`${folder}/text.json`)) {
    expectText(learner, JSON.parse(readFileSync(`${folder}/text.json`)), exported, refuse);
  } else {
    refuse(() => learner.ask('who?'), /the model/);
  }
  learner.close();
  await assert.rejects(load(model.subarray(0, model.length / 2), {wasmBinary}), NudgeError);
  await assert.rejects(load(model, {windowTokens: 1, wasmBinary}), /window/);
  await assert.rejects(load(model, {rank: 65, wasmBinary}), /rank/);
}
