// The widget of Telegram leads back here with what it signed, and that logs in.
import { post } from "/assets/api.js";

const place = document.getElementById("widget");
const answered = Object.fromEntries(new URLSearchParams(location.search));
const back = place.dataset.back;
delete answered.next;

if ("hash" in answered) {
  history.replaceState(null, "", `/login?next=${encodeURIComponent(back)}`);
  for (const name of ["id", "auth_date"]) answered[name] = Number(answered[name]);
  try {
    await post("/auth/telegram/login", answered);
    location.replace(back);
  } catch (error) {
    const refused = document.getElementById("refused");
    refused.textContent = error.message;
    refused.className = "notice bad";
  }
}

const script = document.createElement("script");
script.src = "https://telegram.org/js/telegram-widget.js?22";
script.async = true;
script.dataset.telegramLogin = place.dataset.bot;
script.dataset.size = "large";
script.dataset.requestAccess = "write";
script.dataset.authUrl = `${location.origin}/login?next=${encodeURIComponent(back)}`;
place.append(script);
