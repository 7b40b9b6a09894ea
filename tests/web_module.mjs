// What tests/web_module_tests.cpp asks of the module, under node: the folder of the module, then one
// folder a case, with model.gguf, adapter.gguf (to begin with) and lesson.json. Prints a line each:
// the folder and the SHA-256 of the exported adapter. What is not as it should be ends it with 1.
import assert from 'node:assert/strict';
import {createHash} from 'node:crypto';
import {readFileSync, writeFileSync} from 'node:fs';

const [moduleFolder, ...folders] = process.argv.slice(2);
const {load, NudgeError} = await import(`file://${moduleFolder}/nudge.js`);
const wasmBinary = readFileSync(`${moduleFolder}/nudge_module.wasm`);
const sha256 = bytes => createHash('sha256').update(bytes).digest('hex');

for (const folder of folders) {
  const model = readFileSync(`${folder}/model.gguf`);
  const {options, sequences, steps, imports} = JSON.parse(readFileSync(`${folder}/lesson.json`));
  const learner = await load(model, {...options, wasmBinary});
  assert.equal(learner.baseSha256, sha256(model));
  learner.importAdapter(readFileSync(`${folder}/adapter.gguf`));
  for (let step = 0; step < steps; ++step) learner.learn(sequences);
  const exported = learner.exportAdapter({f16: false});
  writeFileSync(`${folder}/exported.gguf`, exported);
  console.log(folder, sha256(exported));

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
  refuse(() => learner.learn([]), /a step without sequences/);
  refuse(() => learner.learn([{tokens: [1, 2, 3], completionBegin: 3}]), /without completion/);
  refuse(() => learner.learn([{tokens: [1, 2, 1e6], completionBegin: 1}]), /vocabulary/);
  refuse(() => learner.learn([{tokens: [1, 2], completionBegin: 1, objective: 'up'}]), /objective/);
  refuse(() => learner.learn([{tokens: [1, 2], completionBegin: 1, weight: NaN}]), /not finite/);

  // Export, reset, import: the same values; and many of them take no memory.
  const f16 = learner.exportAdapter();
  learner.reset();
  assert.notEqual(learner.digest, digest);
  learner.importAdapter(exported);
  assert.equal(learner.digest, digest);
  for (let i = 0; i < 10; ++i) learner.importAdapter(i % 2 ? exported : f16);
  const {memoryBytes} = learner;
  for (let i = 0; i < imports; ++i) learner.importAdapter(i % 2 ? exported : f16);
  assert.equal(learner.memoryBytes, memoryBytes);
  assert.equal(learner.digest, digest);
  learner.close();
  await assert.rejects(load(model.subarray(0, model.length / 2), {wasmBinary}), NudgeError);
  await assert.rejects(load(model, {rank: 65, wasmBinary}), /rank/);
}
