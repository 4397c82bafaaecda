/** Requests to the server that this page came from. */

import { Failure } from "./failure.js";
import { t } from "./i18n.js";
import { eventsOf } from "./sse.js";

/** The server's address, below whichever path a proxy has put it. */
export const SERVER = new URL("../../../", import.meta.url);

export class Client {
  /** @param {{value: string}} keys whose key goes with every request. */
  constructor(keys) {
    this.keys = keys;
  }

  /**
   * A response that is no error.
   *
   * @param {string} path relative to the server's address.
   * @param {{body?: object, signal?: AbortSignal, isStatusFree?: boolean}} [options] with a body it
   *     is a POST of JSON; `isStatusFree` takes an answer of any status.
   * @returns {Promise<Response>}
   * @throws {Failure} the server refuses, or is not reached.
   */
  async request(path, { body, signal, isStatusFree = false } = {}) {
    const headers = new Headers();
    if (this.keys.value) headers.set("Authorization", `Bearer ${utf8AsLatin1(this.keys.value)}`);
    if (body !== undefined) headers.set("Content-Type", "application/json");
    const options = { headers, signal, cache: "no-store" };
    if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    let response;
    try {
      response = await fetch(new URL(path, SERVER), options);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Failure(t("failure.unreachable"));
    }
    if (!response.ok && !isStatusFree) throw await Failure.of(response);
    return response;
  }

  /**
   * The models that this key may use.
   *
   * @returns {Promise<object[]>}
   */
  async models() {
    const response = await this.request("v1/models");
    return (await response.json()).data;
  }

  /**
   * The events of a stream, as they come.
   *
   * @param {string} path
   * @param {{body?: object, signal?: AbortSignal}} [options]
   */
  async *events(path, options = {}) {
    const response = await this.request(path, options);
    try {
      yield* eventsOf(response.body);
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new Failure(t("failure.cut"));
    }
  }
}

/** A header takes bytes; the server reads those of a key as UTF-8. */
function utf8AsLatin1(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}
