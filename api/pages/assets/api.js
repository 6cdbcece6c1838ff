// Calls of the API: JSON in, JSON out; what it refuses is an ApiError that says why.

export class ApiError extends Error {
  constructor(status, body) {
    const error = body?.error ?? {};
    const faults = (error.details?.errors ?? []).map((fault) => fault.message);
    super([error.message ?? `The service answered ${status}.`, ...faults.slice(0, 5)].join(" "));
    this.status = status;
    this.code = error.code;
    this.details = error.details ?? {};
  }
}

export async function call(method, path, body, options = {}) {
  let answer;
  try {
    answer = await fetch(`/api${path}`, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      ...options,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { error: { message: "The service does not answer." } });
  }
  if (answer.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
  const found = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new ApiError(answer.status, found);
  return found;
}

export const get = (path, options) => call("GET", path, undefined, options);
export const post = (path, body) => call("POST", path, body);
export const remove = (path) => call("DELETE", path);
