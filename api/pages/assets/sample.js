// The tab in which the sample was asked for opens the example when it is there, unless it is on its
// way elsewhere.
let leaves = false;
addEventListener("beforeunload", () => { leaves = true; });

document.addEventListener("htmx:load", ({ detail }) => {
  if (!leaves && detail.elt.matches("#sample[data-goes]")) location.assign(detail.elt.querySelector("a").href);
});
