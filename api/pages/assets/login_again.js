// Somebody may log in in another tab, by a link or by Telegram. This one goes on by itself then: it
// asks when such a tab says so, and whenever it is looked at again.
const back = document.querySelector("[data-back]").dataset.back;
let asking = false;

// The login leads on where somebody is logged in.
async function goesOn() {
  if (asking) return;
  asking = true;
  try {
    const place = `/login?next=${encodeURIComponent(back)}`;
    const answer = await fetch(place, { headers: { accept: "text/html" }, redirect: "manual", cache: "no-store" });
    if (answer.type === "opaqueredirect") location.replace(back);
  } catch { /* the service does not answer; the next look asks again */ }
  asking = false;
}

new BroadcastChannel("login").addEventListener("message", goesOn);
window.addEventListener("focus", goesOn);
document.addEventListener("visibilitychange", () => { if (!document.hidden) goesOn(); });
