// Questions before what cannot be undone.
// `yes` and `no` say what the buttons do.
export function sure(text, yes, no = "Keep it") {
  const dialog = document.getElementById("sure");
  document.getElementById("sure-text").textContent = text;
  dialog.querySelector("[value=yes]").textContent = yes;
  dialog.querySelector("[value=no]").textContent = no;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}
