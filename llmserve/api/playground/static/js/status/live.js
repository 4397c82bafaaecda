/** What the server says of itself, again and again: until it is reached it is asked anew. */

import { Failure } from "../lib/failure.js";
import { Metrics } from "./metrics.js";

const READ_MS = 2000;
const AGAIN_MS = 1000;

export class Live {
  /**
   * @param {import("../lib/client.js").Client} client
   * @param {object} listeners `onStatus(status)` for what operators may see, `onHealth(health)` for
   *     what everybody may, `onMetrics(metrics)`, `onRefused(failure)`, `onReached(isReached)`.
   */
  constructor(client, listeners) {
    this.client = client;
    this.listeners = listeners;
    this.following = null;
    this.isAdmin = false;
  }

  /** Begin, and again with another key. */
  start() {
    this.following?.abort();
    this.following = new AbortController();
    this.#follow(this.following.signal);
    this.#read(this.following.signal);
  }

  /** The status of all workers, whenever it changes. */
  async #follow(signal) {
    while (!signal.aborted) {
      try {
        for await (const event of this.client.events("admin/events", { signal })) {
          if (event.name !== "status") continue;
          this.isAdmin = true;
          this.listeners.onStatus(JSON.parse(event.data));
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error.isAboutKey) {
          this.isAdmin = false;
          this.listeners.onRefused(error);
          return;
        }
        if (!(error instanceof Failure)) throw error;
      }
      await pause(AGAIN_MS);
    }
  }

  /** The metrics, and the health that everybody may see, every two seconds. */
  async #read(signal) {
    while (!signal.aborted) {
      if (!document.hidden) {
        const metrics = await this.#text("metrics", signal);
        if (metrics !== null) this.listeners.onMetrics(new Metrics(metrics));
        const health = await this.#text("health/ready", signal);
        if (health !== null) this.#takeHealth(health);
      }
      await pause(READ_MS);
    }
  }

  /** A proxy may have answered in place of the server: then there are no models in it. */
  #takeHealth(text) {
    let health = null;
    try {
      health = JSON.parse(text);
    } catch {
      // A proxy's page.
    }
    if (health?.models) this.listeners.onHealth(health);
    else this.listeners.onReached(false);
  }

  /** What is at this path; null where the server does not tell, or is not reached. */
  async #text(path, signal) {
    let text = null;
    try {
      // A server that is loading answers 503, with what it is doing.
      const response = await this.client.request(path, {
        signal,
        isStatusFree: path !== "metrics",
      });
      text = await response.text();
    } catch (error) {
      if (signal.aborted || error.isAboutKey) return null;
    }
    this.listeners.onReached(text !== null);
    return signal.aborted ? null : text;
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
