// Everything that is asked of the gateway, with the keys that were typed in. Paths are relative to the page, so that
// the console also works below a proxy's prefix.

const ADMIN = "adaserve.admin-key";
const INFERENCE = "adaserve.inference-key";

/** An answer other than success, or none at all (`status` 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {{message?: string, code?: string, param?: string|null, adaserve?: Object}} error OpenAI's error object
   * @param {number|null} [retryAfterMs]
   */
  constructor(status, error, retryAfterMs = null) {
    super(error.message ?? `The gateway answered ${status}`);
    this.status = status;
    this.code = error.code ?? "";
    this.param = error.param ?? null;
    this.details = error.adaserve ?? {};
    this.retryAfterMs = retryAfterMs;
  }

  /** No route of that name: an older gateway, or one without the part. */
  get isMissing() {
    return [404, 405, 501].includes(this.status);
  }

  get isUnauthorised() {
    return this.status === 401 || this.status === 403;
  }
}

/** The keys of this tab. */
export const keys = {
  get admin() {
    return sessionStorage.getItem(ADMIN) ?? "";
  },
  get inference() {
    return sessionStorage.getItem(INFERENCE) ?? "";
  },
  /** Remember both; an empty one is forgotten. */
  set(admin, inference) {
    for (const [name, value] of [
      [ADMIN, admin],
      [INFERENCE, inference],
    ]) {
      if (value) sessionStorage.setItem(name, value);
      else sessionStorage.removeItem(name);
    }
  },
};

function headers(path, more) {
  const key = path.startsWith("admin/") ? keys.admin : keys.inference || keys.admin;
  return { ...(key ? { authorization: `Bearer ${key}` } : {}), ...more };
}

/**
 * Ask for something.
 * @param {string} path relative, such as `admin/live`
 * @param {{method?: string, body?: Object, signal?: AbortSignal, headers?: Object}} [options]
 * @returns {Promise<Response>} of status 2xx
 * @throws {ApiError}
 */
export async function request(path, { method = "GET", body, signal, headers: more = {} } = {}) {
  const json = body === undefined ? {} : { "content-type": "application/json" };
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: headers(path, { ...json, ...more }),
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The gateway does not answer", code: "unreachable" });
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  const after = Number(response.headers.get("retry-after-ms"));
  return new ApiError(response.status, body?.error ?? {}, after > 0 ? after : null);
}

/** The JSON of an answer; arguments as for `request`. */
export async function ask(path, options) {
  const response = await request(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The gateway's answer broke off", code: "unreachable" });
  }
}

/**
 * The events of a stream, as they come.
 * @param {Response} response
 * @returns {AsyncGenerator<{id: string, data: Object}>} until `[DONE]`
 * @throws {ApiError} told by the stream, or when it ends without a word
 */
export async function* events(response) {
  for await (const { event, id, data } of blocks(response)) {
    if (event === "error") throw new ApiError(200, JSON.parse(data).error ?? {});
    if (data === "[DONE]") return;
    yield { id, data: JSON.parse(data) };
  }
  throw new ApiError(0, { message: "The connection ended before the answer did", code: "unreachable" });
}

async function* blocks(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) if (!part.startsWith(":")) yield parsed(part);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The connection broke off", code: "unreachable" });
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(block) {
  const found = { event: "message", id: "", data: "" };
  for (const line of block.split("\n")) {
    const at = line.indexOf(": ");
    const name = line.slice(0, at);
    if (name in found) found[name] = line.slice(at + 2);
  }
  return found;
}
