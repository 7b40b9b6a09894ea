// The page of `nudge serve`: ask, see what an answer rests on, say what was wrong, ask again; and
// in lessons.js what was learnt of it.
//
//   questions -> /v1/chat/completions   thumbs, corrections -> /v1/feedback   texts -> /v1/documents
//
// Everything that comes from outside is set as text, never as HTML.
"use strict";

const TEXTS = {
  en: {
    skip: "Skip to the question",
    lead: "Ask, say what was wrong, and ask again: the answer learns from you.",
    language: "Language", model: "Model", key: "API key, if there are keys",
    question: "Your question", hint: "Enter sends, Shift+Enter makes a new line.", send: "Ask",
    answers: "Answers", documents: "Add a document", documentId: "Its name",
    documentText: "Its text (plain or Markdown)", add: "Add",
    before: "Before", now: "Now", sources: "Sources",
    up: "Good answer", down: "Bad answer", correct: "Correct it", again: "Ask again",
    should: "This is how it should be", comment: "Why (for people, optional)", teach: "Teach",
    asking: "Asking …", answered: "The answer is there.", taught: "Taken: ", failed: "Not done: ",
    adapter: (version) => version === 0 ? "base model" : `adapter version ${version}`,
    cached: "from the cache", differs: "The text was replaced by what is on record.",
    passage: (id, version) => `${id}, version ${version}`,
    noText: "This page does not have the document's text: it was added elsewhere.",
    none: "No document was used.",
    lessons: "What it has learnt", rollbackTo: "Go back to", rollback: "Go back …",
    rollbackNo: "Leave it as it is", rollbackYes: "Go back",
    serving: (name, inEffect, all) => `Now answering: ${name}. ${inEffect} of ${all} lessons in effect.`,
    noLessons: "No lesson yet: correct an answer.",
    curve: (first, last) => "How much each lesson surprised the model before it was taught, in nats a " +
      `token: ${first} at first, ${last} at last.`,
    lessonLeft: "(what it said is gone)", liked: "liked", disliked: "disliked",
    step: (step, version) => `step ${step}` + (version ? `, made version ${version}` : ""),
    before1: "the version before", base: "the base model", version: (version) => `version ${version}`,
    rollbackQuestion: (name) => `Go back to ${name}? Answers change at once for everybody; lessons ` +
      "that are left behind count no more.",
    standing: {
      serves: "in effect", comes: "learnt, takes over soon", gate: "set aside by a gate",
      unlearnt: "not learnt", set_aside: "left behind by a return", not_admitted: "not admitted",
      forgotten: "forgotten", dropped: "left behind by a return", too_old: "too old to be known",
      replaced: "replaced by a later word", taken_back: "taken back",
    },
  },
  zh: {
    skip: "跳到问题",
    lead: "提问，指出哪里不对，再问一次：回答会向你学习。",
    language: "语言", model: "模型", key: "API 密钥（若服务器要求）",
    question: "你的问题", hint: "回车发送，Shift+回车换行。", send: "提问",
    answers: "回答", documents: "添加文档", documentId: "文档名称",
    documentText: "文档内容（纯文本或 Markdown）", add: "添加",
    before: "之前", now: "现在", sources: "来源",
    up: "回答得好", down: "回答不好", correct: "更正", again: "再问一次",
    should: "正确的回答应该是", comment: "原因（给人看，可不填）", teach: "教给它",
    asking: "正在提问……", answered: "已有回答。", taught: "已收到：", failed: "未完成：",
    adapter: (version) => version === 0 ? "基础模型" : `适配器版本 ${version}`,
    cached: "来自缓存", differs: "文本已换成记录中的内容。",
    passage: (id, version) => `${id}，版本 ${version}`,
    noText: "本页没有这份文档的内容：它是在别处添加的。",
    none: "没有用到文档。",
    lessons: "它学到了什么", rollbackTo: "退回到", rollback: "退回……",
    rollbackNo: "保持不变", rollbackYes: "退回",
    serving: (name, inEffect, all) => `当前回答者：${name}。${all} 课中有 ${inEffect} 课生效。`,
    noLessons: "还没有课：请更正一个回答。",
    curve: (first, last) => `每一课在教之前让模型感到的意外（每个词元的奈特数）：最初 ${first}，最近 ${last}。`,
    lessonLeft: "（内容已不在）", liked: "赞", disliked: "踩",
    step: (step, version) => `第 ${step} 步` + (version ? `，产生版本 ${version}` : ""),
    before1: "前一个版本", base: "基础模型", version: (version) => `版本 ${version}`,
    rollbackQuestion: (name) => `退回到${name}？所有人的回答会立即改变，被留下的课不再生效。`,
    standing: {
      serves: "生效中", comes: "已学会，即将接替", gate: "被检查关口搁置",
      unlearnt: "未学会", set_aside: "因退回而搁置", not_admitted: "未被采纳",
      forgotten: "已遗忘", dropped: "因退回而搁置", too_old: "太旧，情况不明",
      replaced: "被后来的话取代", taken_back: "已撤回",
    },
  },
};

const element = (id) => document.getElementById(id);
const added = new Map();  // document id -> text, of those that this page added
let language = (navigator.language || "en").startsWith("zh") ? "zh" : "en";
const text = () => TEXTS[language];

function translate(root) {
  for (const one of root.querySelectorAll("[data-text]")) {
    one.textContent = text()[one.dataset.text];
  }
}

function headers() {
  const all = { "Content-Type": "application/json" };
  const key = element("key").value.trim();
  if (key) all.Authorization = `Bearer ${key}`;
  // Whose documents and adapter, where no key says so: ?tenant= in the page's address.
  const tenant = new URLSearchParams(location.search).get("tenant");
  if (tenant) all["x-nudge-tenant"] = tenant;
  return all;
}

// The body of a good answer; otherwise throws what the server says, and its remedy.
async function call(path, body) {
  const response = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers: headers(),
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.headers.get("Content-Type")?.startsWith("text/event-stream")) return response;
  const answer = await response.json();
  if (answer.error) throw new Error(`${answer.error.message}. ${answer.error.remedy}`);
  if (response.status === 202) throw new Error(answer.message);
  return answer;
}

// Each object of a stream of server-sent events.
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

// Shows the answer in `side` as it comes; what the server says of it at the end.
async function stream(question, side) {
  const model = element("model").value;
  const messages = [{ role: "user", content: question }];
  const response = await call("/v1/chat/completions", { model, messages, stream: true });
  const shown = side.querySelector(".text");
  let said = null;
  for await (const event of eventsOf(response)) {
    if (event.error) throw new Error(`${event.error.message}. ${event.error.remedy}`);
    shown.textContent += event.choices[0]?.delta.content ?? "";
    said = event.nudge ?? said;
  }
  if (said === null) throw new Error("the stream ended too early");
  const origin = [text().adapter(said.adapter.version)];
  if (said.cache_hit) origin.push(text().cached);
  if (said.streamed_differs) {
    shown.textContent = said.text;
    origin.push(text().differs);
  }
  side.querySelector(".origin").textContent = origin.join(" · ");
  return said;
}

function showSources(item, citations) {
  const list = item.querySelector(".sources ul");
  list.replaceChildren();
  for (const citation of citations) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = text().passage(citation.document_id, citation.version);
    const passage = document.createElement("pre");
    passage.textContent = added.get(citation.document_id) ?? text().noText;
    details.append(summary, passage);
    const line = document.createElement("li");
    line.append(details);
    list.append(line);
  }
  if (citations.length === 0) {
    const line = document.createElement("li");
    line.textContent = text().none;
    list.append(line);
  }
  item.querySelector(".sources").hidden = false;
}

// Asks into an item of the list; the answer that stood there becomes the one before.
async function ask(item, question) {
  const now = item.querySelector(".now");
  const before = item.querySelector(".before");
  const again = now.querySelector(".text").textContent !== "";
  if (again) {
    for (const part of [".text", ".origin"]) {
      before.querySelector(part).textContent = now.querySelector(part).textContent;
      now.querySelector(part).textContent = "";
    }
    before.hidden = false;
    now.querySelector("h4").hidden = false;
  }
  element("status").textContent = text().asking;
  try {
    const said = await stream(question, now);
    item.dataset.event = said.event_id;
    showSources(item, said.citations);
    item.querySelector(".actions").hidden = false;
    for (const thumb of item.querySelectorAll(".up, .down")) thumb.removeAttribute("aria-pressed");
    element("status").textContent = text().answered;
  } catch (error) {
    element("status").textContent = "";
    item.querySelector(".told").textContent = text().failed + error.message;
  }
}

async function teach(item, feedback) {
  const told = item.querySelector(".told");
  try {
    const receipt = await call("/v1/feedback", { answer_id: item.dataset.event, ...feedback });
    told.textContent = text().taught + receipt.summary;
    lookSoon();
    return true;
  } catch (error) {
    told.textContent = text().failed + error.message;
    return false;
  }
}

function addItem(question) {
  const item = element("answer-template").content.firstElementChild.cloneNode(true);
  translate(item);
  item.querySelector(".asked").textContent = question;
  const correction = item.querySelector(".correction");
  const correct = item.querySelector(".correct");
  const open = (opens) => {
    correction.hidden = !opens;
    correct.setAttribute("aria-expanded", String(opens));
  };
  for (const rating of ["up", "down"]) {
    const button = item.querySelector(`.${rating}`);
    button.addEventListener("click", async () => {
      if (await teach(item, { rating })) button.setAttribute("aria-pressed", "true");
    });
  }
  correct.addEventListener("click", () => {
    open(correction.hidden);
    const area = correction.querySelector("textarea");
    if (correction.hidden) return;
    if (!area.value) area.value = item.querySelector(".now .text").textContent;
    area.focus();
  });
  correction.addEventListener("submit", async (event) => {
    event.preventDefault();
    const feedback = { rating: "down", correction: correction.querySelector("textarea").value };
    const comment = correction.querySelector(".comment").value;
    if (comment) feedback.comment = comment;
    if (!await teach(item, feedback)) return;
    open(false);
    item.querySelector(".again").focus();
  });
  item.querySelector(".again").addEventListener("click", () => ask(item, question));
  element("answers").prepend(item);
  return item;
}

async function loadModels() {
  const chosen = element("model");
  try {
    const models = await call("/v1/models");
    chosen.replaceChildren(...models.data.map((one) => new Option(one.id)));
    element("status").textContent = "";
  } catch (error) {
    element("status").textContent = text().failed + error.message;
  }
}

function speak(chosen) {
  language = chosen;
  document.documentElement.lang = language;
  element("language").value = language;
  translate(document);
  drawLessons();
}

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = element("question").value.trim();
  if (!question) return;
  element("question").value = "";
  ask(addItem(question), question);
});
element("question").addEventListener("keydown", (event) => {
  // A composition's Enter takes the word that is being written, as in Chinese input.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  element("ask").requestSubmit();
});
element("document").addEventListener("submit", async (event) => {
  event.preventDefault();
  const id = element("document-id").value.trim();
  const body = element("document-text").value;
  try {
    const receipt = await call("/v1/documents", { document_id: id, text: body });
    added.set(id, body);
    element("status").textContent = text().taught + receipt.summary;
    event.target.reset();
  } catch (error) {
    element("status").textContent = text().failed + error.message;
  }
});
element("key").addEventListener("change", () => {
  loadModels();
  startLessons();
});
element("language").addEventListener("change", (event) => speak(event.target.value));

// Once lessons.js is there, too.
document.addEventListener("DOMContentLoaded", () => {
  speak(language);
  loadModels();
  startLessons();
});
