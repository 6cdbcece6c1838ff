// Follows what goes on: an event says that something changed, the service says what. Where no
// stream comes through, the page asks. A page that nobody sees follows nothing: browsers have six
// connections to a service, and pages that hold them would keep the next one from being loaded.
const FAILURES = 3, POLL_MS = 2000, LEAST_MS = 400;

// `came` is told of each new part, and whether it returns false: then it has ended, and the page is
// loaded again. `seen` is the id of the last event that the part has. Returns what asks for the part.
export function follow({ events, kinds, part, came, seen = "", restMs = 0 }) {
  let failures = 0, asked = false, again = false, stream = null, timer = null, retry = null, words = "", mark = "";
  const run = document.getElementById("run");
  const isLost = () => run.classList.contains("lost");

  function tell(text) {
    words = text;
    const line = document.getElementById("live");
    if (line) line.textContent = isLost() ? "" : text;
  }

  // What does not answer tells nothing of how far it is, and what it said before is not true until
  // it moves on.
  const markOf = () => run.querySelector("[data-mark]")?.dataset.mark;

  function missed() {
    if (isLost()) return;
    mark = markOf();
    run.classList.add("lost", "stale");
    tell(words);
    const line = document.createElement("p");
    line.className = "notice";
    line.setAttribute("role", "status");
    line.textContent = "The service does not answer; trying again …";
    (run.querySelector("section") ?? run).append(line);
  }

  function answered() {
    const wasLost = isLost();
    run.classList.remove("lost");
    if (markOf() !== mark) run.classList.remove("stale");
    tell(words);
    const isSeen = document.visibilityState !== "hidden";
    if (wasLost && isSeen && stream?.readyState === EventSource.CLOSED) { rest(); begin(); }
  }

  async function refresh() {
    if (asked) { again = true; return; }
    asked = true;
    try {
      await htmx.ajax("GET", part, { target: "#run", swap: "innerHTML" });
    } catch { /* the next one may come through */ }
    if (came() === false) { rest(); location.reload(); return; }
    setTimeout(() => { asked = false; if (again) { again = false; refresh(); } }, LEAST_MS);
  }

  function every(ms) {
    clearInterval(timer);
    timer = setInterval(refresh, ms);
  }

  function listen() {
    stream = new EventSource(seen ? `${events}?cursor=${encodeURIComponent(seen)}` : events);
    stream.onopen = () => {
      failures = 0;
      tell("as it happens");
      if (isLost()) refresh();
    };
    stream.onerror = () => {
      failures += 1;
      tell("trying to reach the service …");
      if (failures >= FAILURES) {
        stream.close();
        tell("asking every two seconds");
        every(POLL_MS);
      } else if (stream.readyState === EventSource.CLOSED) retry = setTimeout(listen, POLL_MS);
      refresh();
    };
    for (const kind of kinds) {
      stream.addEventListener(kind, (event) => { seen = event.lastEventId; refresh(); });
    }
  }

  function begin() {
    failures = 0;
    if (restMs) every(restMs);
    listen();
  }

  function rest() {
    stream?.close();
    clearInterval(timer);
    clearTimeout(retry);
  }

  document.addEventListener("visibilitychange", () => {
    rest();
    if (document.visibilityState === "hidden") return;
    begin();
    refresh();
  });
  // Whoever asks for it, the part comes without the words.
  document.addEventListener("htmx:afterSwap", (event) => { if (event.detail.target === run) answered(); });
  document.addEventListener("htmx:sendError", (event) => { if (event.detail.target === run) missed(); });
  if (document.visibilityState !== "hidden") begin();
  return refresh;
}
