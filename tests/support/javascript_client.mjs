// The JavaScript client of Kubernetes, driven by words: `exec NAMESPACE POD COMMAND…`, `inform NAMESPACE COUNT`.
// Prints one JSON value. KUBECONFIG names the configuration, CLIENT_MODULES the folder of the packages.
import { Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';

const entry = `${process.env.CLIENT_MODULES}/@kubernetes/client-node/dist/index.js`;
const { KubeConfig, Exec, CoreV1Api, makeInformer } = await import(pathToFileURL(entry));
const config = new KubeConfig();
config.loadFromFile(process.env.KUBECONFIG);
const [what, namespace, ...words] = process.argv.slice(2);

function collector() {
  const pieces = [];
  const stream = new Writable({ write(chunk, _, done) { pieces.push(chunk); done(); } });
  return { stream, text: () => Buffer.concat(pieces).toString() };
}

async function exec([pod, ...command]) {
  const [out, err] = [collector(), collector()];
  const status = await new Promise((resolve, reject) => {
    new Exec(config).exec(namespace, pod, 'main', command, out.stream, err.stream, null, false, resolve).catch(reject);
  });
  const cause = status.details?.causes?.find((each) => each.reason === 'ExitCode');
  return { stdout: out.text(), stderr: err.text(), code: cause?.message ?? '0' };
}

async function inform([count]) {
  // Lists and watches until so many lists were made: each 410 must lead to another one.
  const api = config.makeApiClient(CoreV1Api);
  let lists = 0;
  const seen = [];
  let enough;
  const done = new Promise((resolve) => { enough = resolve; });
  const informer = makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, async () => {
    lists += 1;
    if (lists >= Number(count)) enough();
    return api.listNamespacedConfigMap({ namespace });
  });
  informer.on('add', (object) => seen.push(object.metadata.name));
  informer.on('error', () => setTimeout(() => informer.start(), 50));
  await informer.start();
  await done;
  await informer.stop();
  return { lists, seen };
}

const result = await { exec, inform }[what](words);
process.stdout.write(JSON.stringify(result), () => process.exit(0));
