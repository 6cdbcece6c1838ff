// Calls of the API: JSON in, JSON out; what it refuses is an ApiError that says why.

const SILENT = "The service does not answer.";

export class ApiError extends Error {
  constructor(status, body) {
    const error = body?.error ?? {};
    const faults = (error.details?.errors ?? []).map(named);
    const bare = status > 501 || status === 0 ? SILENT : `The service answered ${status}.`; // of a proxy
    const texts = [error.message ?? bare, ...faults.slice(0, 5)];
    super([...new Set(texts)].join(" "));
    this.status = status;
    this.code = error.code;
    this.details = error.details ?? {};
  }
}

// The name of a fault's field is the last part of its path; some messages begin with it.
export const fieldOf = ({ path = "" }) => path.split(".").filter((part) => !/^\d+$/.test(part)).at(-1);

function named(fault) {
  const name = fieldOf(fault);
  return !name || name === "body" || fault.message.includes(name) || !fault.path.includes(".")
    ? fault.message : `${name.replaceAll("_", " ")}: ${fault.message}.`;
}

export async function call(method, path, body, options = {}) {
  let answer, text;
  try {
    answer = await fetch(`/api${path}`, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      ...options,
    });
    text = await answer.text(); // what is aborted or broken off half way is no answer
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0);
  }
  if (answer.status === 401) {
    document.dispatchEvent(new Event("loginended"));
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}&ended=true`);
    return new Promise(() => {}); // the login leads back here, and what was asked for is shown then
  }
  const found = parsed(text);
  if (!answer.ok) throw new ApiError(answer.status, found);
  if (text && found === null) throw new ApiError(0); // somebody else's
  return found;
}

// Null of nothing, and of what a proxy may say that knows no JSON.
function parsed(text) {
  try { return JSON.parse(text); } catch { return null; }
}

export const get = (path, options) => call("GET", path, undefined, options);
export const post = (path, body) => call("POST", path, body);
export const remove = (path) => call("DELETE", path);
