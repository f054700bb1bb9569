// What the Gateway API's types have against an HTTPRoute (JSON on standard input), as a JSON list.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder] = process.argv.slice(2);
const schema = "node_modules/@kubernetes-models/gateway-api/_schemas/IoK8sSigsGatewayApiApisV1HTTPRoute.js";
const { validate } = await import(pathToFileURL(`${folder}/${schema}`));
validate(JSON.parse(readFileSync(0, "utf8")));
process.stdout.write(JSON.stringify(validate.errors ?? []));
