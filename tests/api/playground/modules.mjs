/** The folder of the modules that are tested. */

export const MODULES = new URL("../../../llmserve/api/playground/static/js/", import.meta.url);
