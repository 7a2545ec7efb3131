/** Requests to the server, and its errors. */

import { has, language, t } from "./i18n.js";

const ATTEMPTS = 4;
const MAX_WAIT = 20;

/** What went wrong: the problem details of the server (RFC 9457), or that it cannot be reached. */
export class Problem extends Error {
  /**
   * @param {{status: number, kind: string, title?: string, detail?: string, position?: number, retryAfter?: number}} what
   *   title, detail: of the server, in English
   */
  constructor({ title, ...what }) {
    super();
    const word = `problem_${what.kind.replaceAll("-", "_")}`;
    /** In the language of the page, where it has words for the kind. */
    this.title = has(word) ? t(word) : title || t("problem");
    Object.assign(this, what);
    if (what.kind === "query-syntax" && what.position) this.title = t("queryFaultAt", { n: what.position });
    // In English the detail says it all.
    this.message = language === "en" && what.detail ? what.detail : [this.title, what.detail].filter(Boolean).join("：");
  }
}

/**
 * Make what asks the server. Each method resolves to the JSON of the answer, or null where it has none, and rejects
 * with a Problem, or with an AbortError if `signal` was aborted. With `as: "blob"` it resolves to the bytes.
 * @param {{askToken: () => Promise<void>, onBusy: (isBusy: boolean) => void}} hooks askToken: called where a token is
 *   needed, resolves once there is one; onBusy: called when a request begins or ends to wait for a busy server
 */
export function createApi({ askToken, onBusy }) {
  let logins = 0;

  async function send(method, path, body, options = {}) {
    for (let attempt = 1; ; attempt += 1) {
      const before = logins;
      try {
        return await once(method, path, body, options);
      } catch (error) {
        if (error.status === 401) {
          // What was asked before the token came is refused after it: one need not ask the person again.
          if (logins === before) await askToken().then(() => (logins += 1));
        } else if (error.status === 429 && attempt < ATTEMPTS) await wait(error.retryAfter ?? 1, options.signal, onBusy);
        else throw error;
      }
    }
  }
  return {
    send,
    get: (path, options) => send("GET", path, undefined, options),
    post: (path, body, options) => send("POST", path, body, options),
  };
}

/**
 * Tell whether a request ended because nobody wants its answer.
 * @param {unknown} error
 */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

async function once(method, path, body, { signal, as = "json" }) {
  const isForm = body instanceof FormData;
  const headers = body === undefined || isForm ? {} : { "Content-Type": "application/json" };
  const sent = body === undefined || isForm ? body : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method, headers, body: sent, signal, credentials: "same-origin" });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Problem({ status: 0, kind: "unreachable" });
  }
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response[as]();
}

/** @param {Response} response one that is not ok @returns {Promise<Problem>} */
export async function problemOf(response) {
  const said = await response.json().catch(() => ({}));
  const { title = response.statusText, detail, position } = said;
  const kind = String(said.type || "").split(":").pop();
  const seconds = Number(response.headers.get("Retry-After"));
  return new Problem({ status: response.status, kind, title, detail, position, retryAfter: seconds || undefined });
}

function wait(seconds, signal, onBusy) {
  onBusy(true);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, Math.min(seconds, MAX_WAIT) * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  }).finally(() => onBusy(false));
}
