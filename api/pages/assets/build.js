// The form of a back-test: its blocks, its range, its counts and what is wrong with them.
import { forget, look } from "/assets/build_looks.js";
import { countText } from "/assets/job_numbers.js";
import { say } from "/assets/page.js";

const form = () => document.getElementById("build");
const field = (name) => form().elements.namedItem(name);
const edited = (element) => element.dispatchEvent(new Event("edited", { bubbles: true }));

// ---- presses

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-move], [data-days], [data-goes]");
  if (!target) return;
  if (target.dataset.days) return wantRange(target.dataset.days);
  if (target.dataset.goes !== undefined) {
    event.preventDefault();
    return goTo(target.dataset.goes);
  }
  if (target.dataset.move === "let-go") target.closest(".kept").remove();
  else moveBlock(target.closest("[data-block]"), target.dataset.move, target);
  edited(form());
});

function moveBlock(block, where, button) {
  const title = block.querySelector("legend").firstChild.textContent.trim();
  if (where === "out") {
    const next = block.nextElementSibling ?? block.previousElementSibling;
    const chart = block.querySelector("[data-look]");
    forget(chart);
    block.remove();
    (next?.querySelector('[data-move="out"]') ?? document.querySelector(".adder summary")).focus();
    say(`${title} is removed.`);
    markAdded();
    return;
  }
  const beside = where === "up" ? block.previousElementSibling : block.nextElementSibling;
  if (beside) where === "up" ? beside.before(block) : beside.after(block);
  button.focus();
  say(`${title} is now number ${[...block.parentElement.children].indexOf(block) + 1}.`);
}

// The days that are wanted of what is stored, while that is asked for and no other range is typed.
let wanted = null;

function wantRange(days) {
  wanted = days;
  if (!setRange()) edited(field("time_range.start"));
}

// Whether it is known what is stored of the instrument that is chosen.
function setRange() {
  const known = document.querySelector("#coverage [data-of]"), days = wanted;
  const chosen = ["market_id", "symbol"].map((name) => field(`template.instrument_id.${name}`).value.trim()).join(":");
  if (known?.dataset.of !== chosen) return false;
  wanted = null;
  const stored = known.querySelector(".coverage");
  if (!stored) {
    say("Choose a symbol that has candles first.");
    return true;
  }
  const first = Math.floor(stored.dataset.first / 864e5) * 864e5;
  const end = Math.ceil(stored.dataset.end / 864e5) * 864e5;
  const start = days === "all" ? first : Math.max(first, end - days * 864e5);
  field("time_range.start").value = new Date(start).toISOString().slice(0, 16);
  field("time_range.end").value = new Date(end).toISOString().slice(0, 16);
  edited(field("time_range.start"));
  return true;
}

function goTo(name) {
  const found = [...form().elements].find((one) => one.name === name)
    ?? [...form().elements].find((one) => one.name.startsWith(`${name}.`) && !one.name.endsWith(".as") && one.offsetParent);
  const place = found ?? document.querySelector(".build-form");
  place.closest("details")?.setAttribute("open", "");
  place.scrollIntoView({ block: "center" });
  place.focus();
}

// ---- typing

document.addEventListener("keydown", (event) => {
  // In a long form Enter is not yet a decision.
  if (event.key === "Enter" && event.target.matches("#build input")) {
    event.preventDefault();
    if (event.target.dataset.filters) return takeFirst(event.target);
    event.target.dispatchEvent(new Event("change", { bubbles: true }));
  }
});

document.addEventListener("input", (event) => {
  if (event.target.dataset.filters) return filter(event.target);
  const one = event.target.closest(".axis");
  if (one) count(one);
  if (event.target.name?.startsWith("time_range.")) wanted = null;
  if (event.target.name === "template.instrument_id.market_id") followFee();
});

document.addEventListener("change", async (event) => {
  if (event.target.dataset.reads) {
    const [file] = event.target.files;
    if (file) event.target.form.elements.namedItem(event.target.dataset.reads).value = await file.text();
  } else if (event.target.name?.endsWith(".as")) {
    convert(event.target);
  }
});

function filter(input) {
  const wanted = input.value.trim().toLowerCase();
  for (const group of document.querySelectorAll(`#${input.dataset.filters} .catalogue-group`)) {
    const heading = group.querySelector("h3").textContent.toLowerCase();
    let some = false;
    for (const button of group.querySelectorAll("button")) {
      const text = `${button.textContent} ${button.dataset.adds} ${heading}`.toLowerCase();
      button.hidden = !text.includes(wanted);
      some ||= !button.hidden;
    }
    group.hidden = !some;
  }
}

// What is found first is taken, and the next word can be typed.
function takeFirst(input) {
  if (!input.value.trim()) return;
  const found = [...document.querySelectorAll(`#${input.dataset.filters} button`)].find((one) => one.offsetParent && !one.hidden);
  if (!found) return;
  found.click();
  input.value = "";
  filter(input);
}

function followFee() {
  const market = field("template.instrument_id.market_id");
  field("template.execution.fee_pct").placeholder = market.selectedOptions[0]?.dataset.fee ?? "";
}

// ---- axes

function parts(one) {
  const input = (name) => one.querySelector(`[name$=".${name}"]`);
  return { as: input("as"), start: input("start"), stop: input("stop_incl"), step: input("step"), values: input("values") };
}

function rangeValues(start, stop, step, most) {
  const size = Math.floor((stop - start) / step + 1e-9) + 1;
  if (!(size > 0 && step > 0) || size > most) return null;
  return Array.from({ length: size }, (_, i) => Number((start + i * step).toPrecision(12)));
}

// What was typed goes along when the way to type it is changed.
function convert(select) {
  const { start, stop, step, values } = parts(select.closest(".axis"));
  if (select.value === "list") {
    const found = start.value && stop.value && step.value
      && rangeValues(+start.value, +stop.value, +step.value, 60);
    if (found && !values.value) values.value = found.join(", ");
  } else {
    const numbers = values.value.split(/[\s,;]+/).filter(Boolean).map(Number).sort((a, b) => a - b);
    if (numbers.length && numbers.every(Number.isFinite) && !start.value && !stop.value) {
      start.value = numbers[0];
      stop.value = numbers.at(-1);
      step.value = Number((numbers.length > 1 ? numbers[1] - numbers[0] : 1).toPrecision(12));
    }
  }
  count(select.closest(".axis"));
  edited(select);
}

function count(one) {
  const place = one.querySelector("[data-counts]");
  if (!place) return;
  const { as, start, stop, step, values } = parts(one);
  let size = null;
  if (as.value === "list") size = values.value.split(/[\s,;]+/).filter(Boolean).length || null;
  else if (start.value && stop.value && step.value > 0 && +start.value <= +stop.value) {
    size = Math.floor((stop.value - start.value) / step.value + 1e-9) + 1;
  }
  place.textContent = size === null ? "" : size === 1 ? "1 value" : `${countText(size)} values`;
}

// ---- after parts have come

document.addEventListener("htmx:afterSettle", (event) => {
  const target = event.detail.target;
  if (!form()) return;
  if (target.id === "coverage") {
    const isKnown = wanted && setRange();
    if (!isKnown && !target.querySelector("[data-of]")) wanted = null; // it cannot be told, and says why
  } else if (target.id === "estimate") {
    markFaults();
    if (target.querySelector("[data-counted]")) look(form());
  } else if (target.id === "blocks" || target.closest?.("#blocks") || target.id === "build") {
    form().querySelectorAll(".axis").forEach(count);
    markAdded();
    if (target.id === "build") wanted = null;
    if (target.id === "blocks") {
      const block = target.lastElementChild;
      block.scrollIntoView({ block: "nearest" });
      say(`${block.querySelector("legend").firstChild.textContent.trim()} is added.`);
    }
    edited(form());
  }
});

document.addEventListener("htmx:sendError", ({ detail }) => { if (detail.target.id === "coverage") wanted = null; });

function markAdded() {
  const chosen = new Set([...form().querySelectorAll("[data-block]")].map((one) => one.dataset.block));
  for (const button of form().querySelectorAll("[data-adds]")) button.disabled = chosen.has(button.dataset.adds);
}

function markFaults() {
  for (const one of form().querySelectorAll("[aria-invalid]")) {
    one.removeAttribute("aria-invalid");
    describe(one, null);
  }
  for (const fault of form().querySelectorAll("[data-field]")) {
    const name = fault.dataset.field;
    const found = [...form().elements].filter((one) => one.name === name || one.name.startsWith(`${name}.`));
    for (const one of found) {
      one.setAttribute("aria-invalid", "true");
      describe(one, fault.id);
    }
    if (found.length) fault.querySelector("a").textContent = called(found[0]);
  }
}

// A field may have a note of its own; what is wrong with it is read after that.
function describe(field, fault) {
  const own = (field.getAttribute("aria-describedby") ?? "").split(" ").filter((id) => id && !id.startsWith("fault-"));
  const all = fault ? [...own, fault] : own;
  if (all.length) field.setAttribute("aria-describedby", all.join(" "));
  else field.removeAttribute("aria-describedby");
}

// A field as the page calls it.
function called(one) {
  const group = one.closest(".axis[aria-label]")?.getAttribute("aria-label");
  const texts = [...one.labels?.[0]?.childNodes ?? []].filter((node) => node.nodeType === Node.TEXT_NODE);
  return (group ?? texts.map((node) => node.textContent).join(" ")).trim() || one.name;
}

if (form()) {
  form().querySelectorAll(".axis").forEach(count);
  markAdded();
}
