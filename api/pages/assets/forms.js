// What the service refuses of a form is told in it, and tied to the fields that are meant.
import { fieldOf } from "/assets/api.js";

export function clear(form) {
  form.querySelector("[role=alert]").hidden = true;
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
}

export function refuse(form, error) {
  const alert = form.querySelector("[role=alert]");
  alert.id ||= `refused-${form.dataset.form ?? form.closest("[id]").id}`;
  alert.textContent = error.message;
  alert.hidden = false;
  const fields = (error.details.errors ?? []).map((fault) => form.elements.namedItem(fieldOf(fault))).filter((field) => field instanceof Element);
  for (const field of fields) {
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", alert.id);
  }
  fields[0]?.focus();
}
