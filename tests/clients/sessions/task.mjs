// What every session asks; the same as in task.py.
import { readFileSync } from "node:fs";
import { z } from "zod";

export const TASK = JSON.parse(readFileSync(new URL("task.json", import.meta.url), "utf8"));
export const URL_OF_API = `${process.argv[2]}/v1`;
export const MODEL = process.argv[3];

const City = z.enum(["Oslo", "Paris", "Rome"]);
export const Weather = z.strictObject({ city: City, unit: z.enum(["celsius", "fahrenheit"]) });
export const Trip = z.strictObject({
  is_far: z.boolean(),
  stops: z.array(z.strictObject({ city: City, days: z.int().min(1).max(9) })).min(1).max(3),
});

/** What `ask` throws, which must be one of `kind`. */
export async function thrown(kind, ask) {
  try {
    await ask();
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new Error("it was not refused");
}
