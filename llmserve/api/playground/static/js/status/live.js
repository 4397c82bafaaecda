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
        await this.#once("metrics", signal, async (response) =>
          this.listeners.onMetrics(new Metrics(await response.text())),
        );
        await this.#once("health/ready", signal, async (response) =>
          this.listeners.onHealth(await response.json()),
        );
      }
      await pause(READ_MS);
    }
  }

  async #once(path, signal, take) {
    try {
      // A server that is loading answers 503, with what it is doing.
      const response = await this.client.request(path, { signal, isStatusFree: path !== "metrics" });
      if (signal.aborted) return;
      await take(response);
      this.listeners.onReached(true);
    } catch (error) {
      if (signal.aborted || error.isAboutKey) return;
      this.listeners.onReached(false);
    }
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
