// What was typed into the form of a back-test outlives a login that ends: it waits in this tab.
import { say } from "/assets/page.js";

const KEPT = "build";
const form = () => document.getElementById("build");
const owner = () => ({ user: document.querySelector("[data-user]").dataset.user, place: location.pathname + location.search });

function keep() {
  if (!form()) return;
  store(String(new URLSearchParams(new FormData(form()))));
}

function store(fields) {
  try { sessionStorage.setItem(KEPT, JSON.stringify({ ...owner(), fields })); } catch { /* storage may be off */ }
}

document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (event.detail.xhr.status === 401) keep();
});
document.addEventListener("loginended", keep);

// Once, for who typed it, at the address at which it was typed: a link to another form is followed.
function taken() {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEPT));
    sessionStorage.removeItem(KEPT);
    const { user, place } = owner();
    return found?.user === user && found.place === place ? found.fields : null;
  } catch { return null; }
}

const before = form(), fields = before && taken();
if (fields) {
  await window.htmx.ajax("POST", "/_partial/build/open", { target: "#build", swap: "outerHTML", values: { form: fields } });
  if (form() !== before) say("The form is as you left it.");
  else store(fields);
}
