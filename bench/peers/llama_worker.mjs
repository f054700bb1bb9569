// llama.cpp by node-llama-cpp, as a worker of bench.peers (see worker.py for the lines it speaks).
//
//     node llama_worker.mjs MODULES '{"target": FILE, "draft": FILE, "threads": 2}'
//
// MODULES is the node_modules folder with node-llama-cpp and its prebuilt libraries, one for each kind of CPU.

import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, settings] = process.argv.slice(2);
const { target, draft, threads } = JSON.parse(settings);
const folder = join(modules, "node-llama-cpp");
const { DraftSequenceTokenPredictor, getLlama, LlamaLogLevel } = await import(
  pathToFileURL(join(folder, "dist", "index.js"))
);

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const llama = await getLlama({
  gpu: false, build: "never", maxThreads: threads, progressLogs: false, logLevel: LlamaLogLevel.error,
  logger: (level, text) => process.stderr.write(`${level}: ${text}\n`),
});
const models = {};
for (const [name, modelPath] of Object.entries({ target, draft })) models[name] = await llama.loadModel({ modelPath });
const context = (name, count) =>
  models[name].createContext({
    contextSize: 1024, batchSize: 1024, sequences: count, threads: { ideal: threads, min: threads },
  });

// Made for every answer, so that none depends on what was answered before.
async function sequencesFor(count, depth) {
  const contexts = [await context("target", count)];
  if (!depth) return { contexts, sequences: Array.from({ length: count }, () => contexts[0].getSequence()) };
  contexts.push(await context("draft", 1));
  const options = depth === "default" ? {} : { maxTokens: depth, minConfidence: 0 };
  const tokenPredictor = new DraftSequenceTokenPredictor(contexts[1].getSequence(), options);
  return { contexts, sequences: [contexts[0].getSequence({ tokenPredictor })] };
}

async function decode(sequence, prompt, count) {
  const tokens = [];
  for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    if (tokens.push(token) >= count) break;
  }
  return tokens;
}

const { version } = JSON.parse(readFileSync(join(folder, "package.json")));
say({ ready: { "node-llama-cpp": version, "llama.cpp": llama.llamaCppRelease.release } });
for await (const line of createInterface({ input: process.stdin })) {
  const { prompts, tokens, depth } = JSON.parse(line);
  try {
    const { contexts, sequences } = await sequencesFor(prompts.length, depth);
    const start = performance.now();
    const answers = await Promise.all(prompts.map((prompt, index) => decode(sequences[index], prompt, tokens)));
    const seconds = (performance.now() - start) / 1e3;
    for (const each of contexts) await each.dispose();
    say({ tokens: answers, seconds });
  } catch (error) {
    say({ error: String(error) });
  }
}
process.exit(0);
