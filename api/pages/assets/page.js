// What every page does: the theme's switch, selects that send their form, buttons that copy; and who
// is logged in tells tabs that wait at the login.

export function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { place.textContent = ""; }, 8000);
}

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

document.addEventListener("click", async (event) => {
  const target = event.target.closest("[data-theme-switch], [data-copy]");
  if (!target) return;
  if (target.matches("[data-theme-switch]")) {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch { /* storage may be off */ }
    document.dispatchEvent(new CustomEvent("themechange"));
  } else {
    const from = document.getElementById(target.dataset.copy);
    try {
      await navigator.clipboard.writeText(from.value ?? from.textContent);
      say("Copied.");
    } catch {
      say("The browser does not allow copying; select the text and copy it by hand.");
    }
  }
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (!document.documentElement.dataset.theme) document.dispatchEvent(new CustomEvent("themechange"));
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
});

// A proxy whose service is gone answers for it, with a page or a line of its own: no part of this
// one, as a refusal in JSON is none. What refuses a whole form does not take its place.
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const { xhr: { status, responseText }, target } = detail;
  const isPage = /^\s*<(!doctype|html)/i.test(responseText), isPart = status < 400 || /^\s*</.test(responseText);
  if (isPart && !isPage) {
    if (status >= 400 && target.id === "build") Object.assign(detail, { target: document.getElementById("opened"), swapOverride: "innerHTML" });
    return;
  }
  detail.shouldSwap = false;
  const reason = refusal(responseText);
  if (reason) say(reason);
  else document.dispatchEvent(new CustomEvent("htmx:sendError", { detail: { target } }));
});

function refusal(text) {
  try { return JSON.parse(text).error.message; } catch { return null; }
}

// A part that is followed says it in its place.
document.addEventListener("htmx:sendError", ({ detail }) => { if (detail.target.id !== "run") say("The service does not answer."); });

if (document.querySelector("nav[aria-label=Main]")) new BroadcastChannel("login").postMessage("in");
