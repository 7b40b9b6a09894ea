// What tests/web_module_tests.cpp asks of the module, under node: the folder of the module, then one
// folder a case, with model.gguf, adapter.gguf (to begin with) and lesson.json. Prints a line each:
// the folder, the SHA-256 of the exported adapter, and of the logits of an answer by it and of one by the
// base model; leaves exported.gguf and lessons.jsonl there. What is not as it should be ends it with 1.
import assert from 'node:assert/strict';
import {createHash} from 'node:crypto';
import {existsSync, readFileSync, writeFileSync} from 'node:fs';

const [moduleFolder, ...folders] = process.argv.slice(2);
const {open, NudgeError} = await import(`file://${moduleFolder}/learner.js`);
const wasmBinary = readFileSync(`${moduleFolder}/nudge_module.wasm`);
const dictionaries = readFileSync(`${moduleFolder}/nudge_dictionaries.dat`);
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
function expectText(learner, expected, adapter, refuse) {
  const {chats, asked, answer, base, taught, steps, tokensMax, digest} = expected;
  for (const {messages, tokens} of chats) assert.deepEqual(learner.chatTokens(messages), tokens);
  assert.deepEqual(learner.chatTokens(asked), chats[0].tokens);
  refuse(() => learner.chatTokens([{role: 'tool', content: 'x'}]), /role/);
  refuse(() => learner.ask('word '.repeat(800)), /the window is/);
  const say = () => {
    let told = '';
    const {text} = learner.ask(asked, {tokensMax, onText: piece => told += piece});
    assert.equal(told, text);
    return text;
  };
  learner.unplug();
  assert.equal(say(), base);
  learner.plug(adapter);
  for (let step = 0; step < steps; ++step) learner.learn([{asked, answer}]);
  assert.equal(learner.digest, digest);
  assert.equal(say(), taught);
  if (expected.documents) expectDesk(learner, expected);
  learner.unplug();
  assert.equal(say(), base);
}

// A correction by the whole rule, and documents: as this machine has them.
function expectDesk(learner, {asked, tokensMax, taught, corrected, documents, searches, shown}) {
  const answer = learner.ask(asked, {tokensMax});
  assert.equal(answer.text, taught);
  assert.deepEqual(answer.citations, []);
  let parts = 0;
  learner.onBeat = () => {
    ++parts;
    return false;
  };
  const lesson = learner.teach(answer.id, {rating: 'down', correction: 'It is up.'});
  assert.ok(lesson.learnt && lesson.nllAfter < lesson.nllBefore);
  assert.equal(learner.digest, corrected);

  // What is stopped, or refused, has changed nothing.
  const says = (call, sentence) => assert.throws(
      call, error => error instanceof NudgeError && sentence.test(error.message));
  assert.ok(parts > 10);
  for (const most of [0, parts / 2, parts - 1]) {
    parts = 0;
    learner.onBeat = () => ++parts > most;
    says(() => learner.teach(answer.id, {rating: 'up', correction: 'Nowhere.'}), /was stopped/);
  }
  learner.onBeat = () => false;
  says(() => learner.teach(answer.id, {}), /says nothing/);
  says(() => learner.teach(answer.id, {rating: 2}), /rating/);
  says(() => learner.teach(12345, {rating: 'up'}), /not among the last/);
  says(() => learner.addDocument('', 'text'), /name/);
  says(() => learner.addDocument('empty', '  '), /text/);
  assert.equal(learner.digest, corrected);

  for (const [id, title, text] of documents) assert.equal(learner.addDocument(id, text, title), 1);
  for (const {question, passages} of searches) assert.deepEqual(learner.search(question), passages);
  learner.setSystem('Be brief.');
  learner.addExample('Who rises?', 'The sun.');
  const turns = [{role: 'user', content: 'Hi'}, {role: 'assistant', content: 'Yes?'}];
  const {citations} = learner.ask('Who rises at nine?', {turns, tokensMax});
  assert.deepEqual(citations, shown);
  const saved = learner.save();
  assert.equal(learner.removeDocument('moon'), 1);
  assert.equal(learner.removeDocument('moon'), 0);
  assert.equal(learner.search('moon').length, 0);
  says(() => learner.restore({...saved, lessons: saved.lessons.slice(1)}), /damaged/);
  says(() => learner.restore({...saved, texts: saved.texts.slice(1)}), /damaged/);
  assert.equal(learner.search('moon').length, 0);
  learner.reset();
  learner.restore(saved);
  assert.equal(learner.digest, corrected);
  assert.deepEqual(learner.search(searches[0].question), searches[0].passages);
  for (const [id] of documents) learner.removeDocument(id);
  learner.setSystem('');
}

let ofAnotherModel;
for (const folder of folders) {
  const model = readFileSync(`${folder}/model.gguf`);
  const {options, sequences, steps, imports, prompt, answerTokens} = JSON.parse(readFileSync(`${folder}/lesson.json`));
  const learner = await open(model, {...options, wasmBinary, dictionaries});
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
  const lessons = learner.exportLessons();
  const [last] = new TextDecoder().decode(lessons).trimEnd().split('\n').slice(-1).map(JSON.parse);
  assert.equal(last.digest, learner.digest);
  writeFileSync(`${folder}/lessons.jsonl`, lessons);
  learner.close();
  await assert.rejects(open(model.subarray(0, model.length / 2), {wasmBinary}), NudgeError);
  await assert.rejects(open(model, {windowTokens: 1, wasmBinary}), /window/);
  await assert.rejects(open(model, {rank: 65, wasmBinary}), /rank/);
}
