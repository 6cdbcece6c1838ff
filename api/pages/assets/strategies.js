// What can be done to a strategy, in the list and on its own page.
import { ApiError, post, remove } from "/assets/api.js";
import { sure } from "/assets/dialogs.js";
import { say } from "/assets/page.js";

const dialog = document.getElementById("clone"), form = dialog.querySelector("form");
const refused = form.querySelector("[role=alert]");
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
    refused.hidden = true;
    dialog.showModal();
  } else if (await sure(`Delete ${button.dataset.name}? What it did is gone from the pages, too.`)) {
    try {
      await remove(`/strategies/${button.dataset.delete}`);
      location.assign("/strategies");
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
    refused.textContent = error.message;
    refused.hidden = false;
  }
});
