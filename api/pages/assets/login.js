// The widget of Telegram leads back here with what it signed, and that logs in: where this tab asked
// for it. Who is led here by somebody else's signature would be logged in as somebody else.
import { post } from "/assets/api.js";

const STATE = "telegram-login";
const place = document.getElementById("widget");
const { next, state, ...signed } = Object.fromEntries(new URLSearchParams(location.search));
const { back } = document.querySelector("[data-back]").dataset;

function refuse(text) {
  const refused = document.getElementById("refused");
  refused.textContent = text;
  refused.className = "notice bad";
}

// What this tab asked with last; it is good for one answer.
function asked() {
  try {
    const found = sessionStorage.getItem(STATE);
    sessionStorage.removeItem(STATE);
    return found;
  } catch { return null; /* storage may be off */ }
}

function asks() {
  const made = [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
  try { sessionStorage.setItem(STATE, made); } catch { /* its answer will be refused, in words */ }
  return made;
}

if ("hash" in signed) {
  history.replaceState(null, "", `/login?next=${encodeURIComponent(back)}`);
  for (const name of ["id", "auth_date"]) signed[name] = Number(signed[name]);
  const own = asked();
  if (!own || own !== state) {
    refuse("This login did not begin in this tab, so nobody is logged in. Press the button of Telegram; the browser has to let this page keep data of its session.");
  } else {
    try {
      await post("/auth/telegram/login", signed);
      location.replace(back);
    } catch (error) {
      refuse(error.message);
    }
  }
}

const script = document.createElement("script");
script.src = "https://telegram.org/js/telegram-widget.js?22";
script.async = true;
script.dataset.telegramLogin = place.dataset.bot;
script.dataset.size = "large";
script.dataset.requestAccess = "write";
script.dataset.authUrl = `${location.origin}/login?next=${encodeURIComponent(back)}&state=${asks()}`;
place.append(script);
