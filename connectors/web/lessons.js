// What a tenant's model was taught: the list, its curve, the version that answers, and the way back.
//
//   /v1/lessons, while the page is seen -> list, curve
//   rollback, where /v1/caller may -> /v1/events
"use strict";

const kLookEveryS = 10;      // each look is one of the key's requests
const kSoonLooks = 8;        // one a second, once something was taught
const kPageLessons = 200;
const kLessonsKept = 1000;   // that the curve shows
const kLessonsListed = 30;
const kLessonsAgain = 50;    // the newest, whose standing may change: asked for each time
const kVersionsOffered = 20;

let lessons = [];     // in log order
let serving = null;   // the version that answers; null: not known yet
let matching = 0;
let drawn = "";        // what the page shows
let looking = false;
let soon = 0;         // looks that follow each other quickly
let waitS = 0;        // until the next look
let started = 0;      // counts keys: what another one's request brings comes too late

// What became of a lesson, as TEXTS has it.
function standingOf(lesson) {
  if (lesson.standing !== "serves" && lesson.standing !== "comes") return lesson.standing;
  if (lesson.accepted === undefined || lesson.error) return "unlearnt";
  return lesson.accepted ? lesson.standing : "gate";
}

function nameOf(version) {
  return version === 0 ? text().base : text().version(version);
}

function paragraph(className, content) {
  const one = document.createElement("p");
  one.className = className;
  one.textContent = content;
  return one;
}

function lineOf(lesson) {
  const line = document.createElement("li");
  line.append(paragraph("asked", lesson.question ?? text().lessonLeft));
  const rated = lesson.reward > 0 ? text().liked : text().disliked;
  const said = lesson.correction ?? (lesson.reward === undefined ? "" : rated);
  if (said) line.append(paragraph("said", said));
  const stands = [text().standing[standingOf(lesson)]];
  if (lesson.step > 0) stands.push(text().step(lesson.step, lesson.makes_version));
  if (lesson.user) stands.push(lesson.user);
  line.append(paragraph("stands", stands.join(" · ")));
  return line;
}

function drawCurve() {
  const heights = lessons.filter((one) => one.tokens > 0 && one.nll_before > 0)
    .map((one) => one.nll_before);
  element("curve-figure").hidden = heights.length < 2;
  if (heights.length < 2) return;
  const most = Math.max(...heights);
  const points = heights.map((height, at) =>
    `${(10 + 580 * at / (heights.length - 1)).toFixed(1)},${(110 - 100 * height / most).toFixed(1)}`);
  element("curve-line").setAttribute("points", points.join(" "));
  element("curve-caption").textContent =
    text().curve(heights[0].toFixed(2), heights.at(-1).toFixed(2));
}

function drawVersions() {
  const versions = new Set(lessons.map((one) => one.makes_version).filter((one) => one));
  versions.delete(serving);
  const chosen = element("rollback-to");
  const before = chosen.value;
  const offered = [...versions].sort((a, b) => b - a).slice(0, kVersionsOffered);
  const options = [new Option(text().before1, "")];
  for (const version of offered) options.push(new Option(nameOf(version), String(version)));
  options.push(new Option(text().base, "0"));
  chosen.replaceChildren(...options);
  chosen.value = before;
  if (chosen.selectedIndex < 0) chosen.selectedIndex = 0;
}

// From what is known; also where the language changes.
function drawLessons() {
  if (serving === null) return;
  const inEffect = lessons.filter((one) => standingOf(one) === "serves").length;
  const now = lessons.length === 0 && serving === 0
    ? text().noLessons : text().serving(nameOf(serving), inEffect, matching);
  // Set only where it differs, so that nobody's reading is disturbed.
  if (element("serving").textContent !== now) element("serving").textContent = now;
  element("lessons").replaceChildren(...lessons.slice(-kLessonsListed).reverse().map(lineOf));
  element("lessons").tabIndex = lessons.length > 0 ? 0 : -1;  // it scrolls
  drawCurve();
  drawVersions();
}

// Asks for the newest lessons, and for all where none is known yet.
async function showLessons() {
  if (looking) return;
  looking = true;
  const of = started;
  try {
    let known = lessons.slice(0, Math.max(0, lessons.length - kLessonsAgain));
    let after = known.length > 0 ? known.at(-1).event : null;
    for (;;) {
      const place = after === null ? "" : `&after=${after}`;
      const page = await call(`/v1/lessons?limit=${kPageLessons}${place}`);
      if (of !== started) return;
      known = known.concat(page.lessons).slice(-kLessonsKept);
      [serving, matching, after] = [page.serving, page.matching, page.after];
      if (after === null) break;
    }
    lessons = known;
    const now = JSON.stringify([serving, matching, lessons]);
    if (now !== drawn) drawLessons();
    drawn = now;
  } catch {
    // No state yet, a restart, a wrong key: the page says so where it asks, and this asks again.
  } finally {
    looking = false;
  }
}

// What was just said shows once the state has it.
function lookSoon() {
  soon = kSoonLooks;
  waitS = 0;
}

// For the key that is there now.
async function startLessons() {
  const of = ++started;
  lessons = [];
  serving = null;
  drawn = "";
  element("rollback").hidden = true;
  element("serving").textContent = "";
  element("lessons").replaceChildren();
  try {
    const caller = await call("/v1/caller");
    if (of === started) element("rollback").hidden = !caller.roles.includes("admin");
  } catch {
    return;
  }
  showLessons();
}

async function rollBack() {
  const told = element("lessons-told");
  const version = element("rollback-to").value;
  const data = { action: "rollback" };
  if (version !== "") data.version = Number(version);
  try {
    const outcome = await call("/v1/events", { specversion: "1.0", type: "nudge.adapter", data });
    const said = outcome.data;
    if (said.code) throw new Error(`${said.message}. ${said.remedy}`);
    told.textContent = text().taught + said.summary;
    lookSoon();
  } catch (error) {
    told.textContent = text().failed + error.message;
  }
}

element("rollback").addEventListener("submit", (event) => {
  event.preventDefault();
  const chosen = element("rollback-to");
  element("rollback-question").textContent =
    text().rollbackQuestion(chosen.options[chosen.selectedIndex].text);
  element("rollback-dialog").showModal();
  element("rollback-no").focus();
});
element("rollback-no").addEventListener("click", () => element("rollback-dialog").close());
element("rollback-yes").addEventListener("click", () => {
  element("rollback-dialog").close();
  rollBack();
});
setInterval(() => {
  if (document.hidden || element("rollback-dialog").open || --waitS > 0) return;
  waitS = soon > 0 ? 1 : kLookEveryS;
  soon = Math.max(0, soon - 1);
  showLessons();
}, 1000);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) showLessons();
});
