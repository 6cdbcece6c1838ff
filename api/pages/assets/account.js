// The account's page. What is secret is shown once and taken off the page when that is closed.
import { ApiError, get, post, remove } from "/assets/api.js";
import { sure } from "/assets/dialogs.js";
import { clear, refuse } from "/assets/forms.js";
import { say } from "/assets/page.js";

const byId = (name) => document.getElementById(name);
const reload = (name) => htmx.ajax("GET", `/_partial/account/${name}`, { target: `#${name}`, swap: "innerHTML" });

// Resolves when it was closed, and its text is gone.
function shownOnce(title, note, text) {
  byId("secret-title").textContent = title;
  byId("secret-note").textContent = note;
  byId("secret-text").textContent = text;
  return opened(byId("secret"), () => { byId("secret-text").textContent = ""; });
}

function opened(dialog, closed = () => {}) {
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => { closed(); done(); }, { once: true });
  });
}

const shownCodes = (codes) => shownOnce(
  "Recovery codes", "With one of them a lost authenticator is replaced. Each works once; they are shown this once.", codes.join("\n"),
);

// What needs a fresh code asks for it before; null where the visitor gives none.
async function proved(action) {
  const { state, stepped_up_until } = await get("/2fa");
  if (state === "enabled" && !stepped_up_until && !(await steppedUp())) return null;
  try {
    return await action();
  } catch (error) {
    if (error.details?.error !== "step_up_required") throw error;
  }
  return await steppedUp() ? action() : null;
}

async function steppedUp() {
  const form = byId("code").querySelector("form");
  let good = false;
  form.onsubmit = (event) => {
    event.preventDefault();
    refusing(form, async () => {
      await post("/2fa/step-up", { code: form.elements.code.value });
      good = true;
      byId("code").close();
    });
  };
  await opened(byId("code"), () => blank(form));
  return good;
}

function blank(form) {
  form.reset();
  clear(form);
}

async function refusing(form, action) {
  const button = form.querySelector("button:not([type=button])");
  clear(form);
  button.disabled = true;
  try {
    await action();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    refuse(form, error);
  } finally {
    button.disabled = false;
  }
}

const FORMS = {
  async token(form) {
    const made = await post("/access-tokens", {
      name: form.elements.name.value,
      scopes: [...form.querySelectorAll("[name=scopes]:checked")].map((box) => box.value),
      expires_in_days: Number(form.elements.days.value),
    });
    await shownOnce("Your new token", "It is shown this once and kept nowhere. Put it where the program reads it, as ROEHUB_TOKEN for ours.", made.token);
    await reload("tokens");
  },
  async verify(form) {
    const { recovery_codes } = await post("/2fa/verify", { code: form.elements.code.value });
    byId("two-factor").replaceChildren();
    await shownCodes(recovery_codes);
    await Promise.all([reload("two-factor"), reload("keys")]);
  },
  async reset(form) {
    await post("/2fa/reset", { recovery_code: form.elements.recovery_code.value });
    await Promise.all([reload("two-factor"), reload("keys")]);
  },
  async key(form) {
    const fields = Object.fromEntries(new FormData(form));
    if (!fields.passphrase) delete fields.passphrase;
    if (await proved(() => post("/exchange-keys", fields)) === null) return;
    form.reset();
    await Promise.all([reload("keys"), reload("two-factor")]);
  },
};

const ACTS = {
  async "log-out"() { await post("/auth/logout"); location.assign("/"); },
  async "log-out-everywhere"() {
    if (!(await sure("Log out everywhere, here too?", "Log out", "Stay"))) return;
    await post("/auth/logout-everywhere");
    location.assign("/");
  },
  async end({ id }) { await remove(`/auth/sessions/${id}`); await reload("sessions"); },
  async revoke({ id, name }) {
    if (!(await sure(`Revoke ${name}? Whatever uses it stops to work at once.`, "Revoke it"))) return;
    await remove(`/access-tokens/${id}`);
    await reload("tokens");
  },
  async renew() {
    const made = await proved(() => post("/2fa/recovery-codes"));
    if (!made) return;
    await shownCodes(made.recovery_codes);
    await reload("two-factor");
  },
  async disable() {
    if (!(await sure("Switch the second factor off? Exchange keys are out of reach until there is one again.", "Switch it off"))) return;
    await proved(() => remove("/2fa"));
    await Promise.all([reload("two-factor"), reload("keys")]);
  },
  async "delete-key"({ id, name }) {
    if (!(await sure(`Delete the key ${name}? Its secrets are erased at once.`, "Delete it"))) return;
    await proved(() => remove(`/exchange-keys/${id}`));
    await Promise.all([reload("keys"), reload("two-factor")]);
  },
  async bind() {
    const link = await post("/account/telegram/chats");
    const place = byId("chat-link");
    if (link.url === null) {
      place.textContent = "No live runner has served a bot yet: set its token (see “Telegram” in the runbook of live runs), start roehub live, and ask again.";
      return;
    }
    const anchor = document.createElement("a");
    Object.assign(anchor, { href: link.url, target: "_blank", rel: "noopener noreferrer", textContent: "Open it in Telegram and press Start" });
    place.replaceChildren(anchor, " It works once, for a quarter of an hour.");
    anchor.addEventListener("click", () => setTimeout(() => place.replaceChildren("Press Start there, then “Look again”."), 0), { once: true });
  },
  async "remove-chat"({ id }) {
    if (!(await sure("Remove this chat? It gets no more messages.", "Remove it"))) return;
    await remove(`/account/telegram/chats/${id}`);
    await reload("chats");
  },
  async reload({ id }) { await reload(id); },
  async erase() {
    const form = byId("erase").querySelector("form");
    form.onsubmit = (event) => {
      event.preventDefault();
      refusing(form, async () => {
        if ((await proved(async () => { await remove("/account"); return true; })) === true) location.assign("/");
      });
    };
    await opened(byId("erase"), () => blank(form));
  },
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  if (button.dataset.act === "close") { button.closest("dialog").close(); return; }
  try {
    await ACTS[button.dataset.act](button.dataset);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(error.message);
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-form]");
  if (!form) return;
  event.preventDefault();
  refusing(form, () => FORMS[form.dataset.form](form));
});
