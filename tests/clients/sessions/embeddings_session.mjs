// A session with the libraries that ask for embeddings in Node: OpenAI's own, and Vercel's `ai`.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { cosineSimilarity, embed, embedMany } from "ai";
import OpenAI from "openai";
import { MODEL, URL_OF_API } from "./task.mjs";

const TEXTS = ["how do I warm a model", "the fox", "Rain!"];
const client = new OpenAI({ baseURL: URL_OF_API, apiKey: "none", maxRetries: 0 });
// It asks for base64 by itself.
const answer = await client.embeddings.create({ model: MODEL, input: TEXTS });
const digits = await client.embeddings.create({
  model: MODEL,
  input: TEXTS,
  encoding_format: "float",
});
const model = createOpenAICompatible({
  name: "llmserve",
  baseURL: URL_OF_API,
  apiKey: "none",
}).textEmbeddingModel(MODEL);
const many = await embedMany({ model, values: TEXTS, maxRetries: 0 });
const one = await embed({
  model,
  value: TEXTS[0],
  maxRetries: 0,
  providerOptions: { llmserve: { dimensions: 8 } },
});
console.log(
  JSON.stringify({
    vectors: answer.data.map(({ embedding }) => embedding),
    digits: digits.data.map(({ embedding }) => embedding),
    tokens: answer.usage.prompt_tokens,
    vercel: {
      vectors: many.embeddings,
      tokens: many.usage.tokens,
      short: one.embedding,
      same: cosineSimilarity(many.embeddings[0], answer.data[0].embedding),
    },
  }),
);
