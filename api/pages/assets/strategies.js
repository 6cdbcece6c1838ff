// What can be done to a strategy, in the list and on its own page.
import { ApiError, get, post, remove } from "/assets/api.js";
import { sure } from "/assets/dialogs.js";
import { clear, refuse } from "/assets/forms.js";
import { say } from "/assets/page.js";

const dialog = document.getElementById("clone"), form = dialog.querySelector("form");
let source = null;

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-clone], [data-delete], [data-close]");
  if (!button) return;
  if ("close" in button.dataset) button.closest("dialog").close();
  else if ("clone" in button.dataset) {
    source = button.dataset;
    form.elements.market_id.value = source.market;
    form.elements.symbol.value = source.symbol;
    form.elements.timeframe.value = source.timeframe;
    clear(form);
    dialog.showModal();
  } else {
    const there = `/strategies/${button.dataset.delete}`;
    try {
      const { items: [last] } = await get(`${there}/runs?limit=1`);
      if (last && !last.stopped_at) say(`Not deleted: a run of it is ${last.state.replace("_", " ")}. Stop the run on the strategy's page, then delete it.`);
      else if (await sure(`Delete this strategy of ${button.dataset.name}? What it did is gone from the pages, too.`, "Delete it")) {
        await remove(there);
        location.assign("/strategies");
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      say(error.message);
    }
  }
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { market_id, symbol, timeframe } = Object.fromEntries(new FormData(form));
  const overrides = {};
  if (market_id !== source.market || symbol.trim().toUpperCase() !== source.symbol) {
    overrides.instrument_id = { market_id: Number(market_id), symbol };
  }
  if (timeframe !== source.timeframe) overrides.timeframe = timeframe;
  try {
    const made = await post("/strategies/clone", { source_strategy_id: source.clone, overrides });
    location.assign(`/strategies/${made.strategy_id}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    refuse(form, error);
  }
});
