// A person at the page of `nudge serve`, in a real browser: adds a document, asks, corrects until
// the answer is as it should be, and asks again; with the keyboard, in Chinese, on a telephone.
//
//   node page_browser.mjs URL CHROMIUM PACKAGES [learns]
//
// Prints what it saw; ends with 1 and the reason where something is not as it should be. With
// `learns` a model answers, and its answer must come to the corrected form.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [url, chromiumPath, packages, learns] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const kPatienceMs = 60_000;
const kCorrectionsMost = 12;
const kQuestion = "How heavy is the Heron touring bike?";
const kWanted = "Short answer: 13.6 kilograms.";

function expect(holds, what) {
  if (!holds) throw new Error(what);
}

// Nothing that axe finds serious or critical.
async function checkAccess(page, state) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const bad = violations.filter((one) => ["serious", "critical"].includes(one.impact));
  expect(bad.length === 0, `${state}: ${JSON.stringify(bad.map((one) => [one.id, one.help]))}`);
}

async function answered(page) {
  await page.locator("#status", { hasText: "The answer is there." }).waitFor();
  return (await page.locator(".answer .now .text").first().textContent()).trim();
}

// What was learnt shows itself; with the keyboard somebody goes back, once not and once after all.
async function useLessons(page, corrections) {
  await page.locator("#lessons li").nth(corrections - 1).waitFor();
  const newest = page.locator("#lessons li").first();
  expect((await newest.locator(".asked").textContent()) === kQuestion, "the lesson's question");
  expect((await newest.locator(".said").textContent()) === kWanted, "the lesson's correction");
  await newest.locator(".stands", { hasText: "in effect" }).waitFor();
  await page.locator("#serving", { hasText: `version ${corrections}` }).waitFor();
  console.log(await page.locator("#serving").textContent());
  if (corrections > 1 && learns) {
    const points = await page.locator("#curve-line").getAttribute("points");
    expect(points.split(" ").length === corrections, `a curve of ${points}`);
    console.log(await page.locator("#curve-caption").textContent());
  }
  await checkAccess(page, "lessons");

  await page.locator("#rollback-to").focus();
  await page.locator("#rollback-to").selectOption("0");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator("#rollback-question", { hasText: "the base model" }).waitFor();
  await checkAccess(page, "asking whether to go back");
  await page.keyboard.press("Escape");
  expect(!(await page.locator("#rollback-dialog").isVisible()), "Escape leaves the question");
  expect((await page.locator("#lessons-told").textContent()) === "", "it went back unasked");
  await page.keyboard.press("Enter");  // the focus is where it was
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator("#lessons-told", { hasText: "Taken: " }).waitFor();
  await page.locator("#serving", { hasText: "the base model" }).waitFor();
  await newest.locator(".stands", { hasText: "left behind" }).waitFor();
  console.log(await page.locator("#lessons-told").textContent());
}

async function use(page) {
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.setDefaultTimeout(kPatienceMs);
  await page.goto(url);
  await page.locator("#model option").first().waitFor({ state: "attached" });
  await checkAccess(page, "empty");

  await page.locator("#documents summary").click();
  await page.locator("#document-id").fill("heron");
  await page.locator("#document-text").fill("The Heron touring bike weighs 13.6 kilograms.");
  await page.locator("#document button").click();
  await page.locator("#status", { hasText: "1 chunk indexed" }).waitFor();

  await page.locator("#question").fill(kQuestion);
  await page.keyboard.press("Enter");
  const first = await answered(page);
  expect(first.length > 0, "no answer");
  console.log(`first: ${first}`);
  await page.locator(".sources summary").first().click();
  const passage = await page.locator(".sources pre").first().textContent();
  expect(passage.includes("13.6 kilograms"), `the citation opens ${passage}`);

  let answer = first;
  let corrections = 0;
  const most = learns ? kCorrectionsMost : 1;
  while (corrections < most && answer !== kWanted) {
    await page.locator(".correct").first().click();
    await page.locator(".correction textarea").first().fill(kWanted);
    await page.locator(".correction button[type=submit]").first().click();
    await page.locator(".told", { hasText: "training step" }).first().waitFor();
    ++corrections;
    const status = page.locator("#status");
    await status.evaluate((element) => { element.textContent = ""; });
    await page.locator(".again").first().click();
    answer = await answered(page);
  }
  console.log(`after ${corrections} corrections: ${answer}`);
  const before = (await page.locator(".before .text").first().textContent()).trim();
  expect(before.length > 0, "the answer before is not shown beside the new one");
  if (learns) expect(answer === kWanted, `after ${corrections} corrections: ${answer}`);
  await checkAccess(page, "used");

  await useLessons(page, corrections);

  await page.locator("#language").selectOption("zh");
  expect(/[\u4e00-\u9fff]/.test(await page.locator("#serving").textContent()), "no Chinese");
  expect(await page.locator("html").getAttribute("lang") === "zh", "the page's language");
  expect(/[\u4e00-\u9fff]/.test(await page.locator("#ask button").textContent()), "no Chinese");
  await checkAccess(page, "Chinese");

  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(overflow <= 0, `${overflow} pixels wider than a telephone`);
  expect(faults.length === 0, faults.join("\n"));
}

const browser = await chromium.launch({
  executablePath: chromiumPath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
try {
  const context = await browser.newContext({
    viewport: { width: 390, height: 844 },
    locale: "en-GB",
  });
  await use(await context.newPage());
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
}
