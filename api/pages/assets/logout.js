// Ends the session, and leads to the login.
import { ApiError, post } from "/assets/api.js";
import { say } from "/assets/page.js";

document.getElementById("log-out").addEventListener("click", async () => {
  try {
    await post("/auth/logout");
    location.assign("/login");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(error.message);
  }
});
