/** What went wrong with a request, as the page shows it. */

export class Failure extends Error {
  /**
   * @param {string} message
   * @param {object} [details]
   * @param {number} [details.status] the HTTP status; 0 where the server was not reached.
   * @param {string} [details.code] the server's name for the error.
   * @param {number|null} [details.retryAfter] seconds after which another try makes sense.
   */
  constructor(message, { status = 0, code = "", retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** Whether the request lacks a key that the server takes. */
  get isAboutKey() {
    return this.status === 401 || this.status === 403;
  }

  /** Whether the same request may succeed later. */
  get isTemporary() {
    return this.status === 429 || this.status === 502 || this.status === 503 || this.status === 0;
  }

  /**
   * What a response with an error says.
   *
   * @param {Response} response
   * @returns {Promise<Failure>}
   */
  static async of(response) {
    const body = await response.json().catch(() => ({})); // a proxy's page, say
    const error = body?.error ?? {};
    const seconds = Number.parseFloat(response.headers.get("Retry-After") ?? "");
    return new Failure(error.message ?? `${response.status} ${response.statusText}`.trim(), {
      status: response.status,
      code: error.code ?? "",
      retryAfter: Number.isFinite(seconds) ? seconds : null,
    });
  }

  /**
   * What an error object in the middle of a stream says.
   *
   * @param {{message?: string, code?: string}} error
   * @param {number} [status]
   * @param {number|null} [retryAfter] seconds.
   * @returns {Failure}
   */
  static inStream(error, status = 500, retryAfter = null) {
    return new Failure(error.message ?? "", { status, code: error.code ?? "", retryAfter });
  }
}
