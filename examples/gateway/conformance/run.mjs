// Runs the public suite of HTTP cache behaviour (http-cache-tests on npm, its
// version pinned in package.json) against the gateway, once for each profile of
// its cache, and compares the verdicts with those of expected.json.
//
//   node run.mjs -gateway PATH [-profile rfc|safe] [-redis URL] [-near BYTES] [-instances N] [-rounds N] [-strict] [-v]
//   node run.mjs -gateway PATH -suite DIR [...]
//
// -suite takes a clone of the suite's repository, its dependencies installed, in the
// place of the edition on npm, which is older; expected-2026.json is about its edition
// of 2026. There the server and the client are in test-engine, on npm they are not.
//
// A verdict is what the suite's own determineTestResult says, dependencies
// honoured. The run fails when fewer tests pass than expected.json counts, when a
// test fails that it does not list, or when one that it lists passes. The suite
// works with lifetimes of two seconds, which a busy machine can miss: what is
// unexpected is measured once more, and counts if it is so again; -strict leaves
// that out.
//
// The suite is installed outside of the repository, once for each lock file, and of
// what it depends on only what its command line client uses.
import { spawn, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

const here = path.dirname(fileURLToPath(import.meta.url))
const { values: flags } = parseArgs({
  args: process.argv.slice(2).map(a => a.replace(/^-(?=[a-z]{2})/, '--')), // -flag, as the gateway has it
  options: {
    gateway: { type: 'string' },
    profile: { type: 'string', multiple: true, default: ['rfc', 'safe'] },
    redis: { type: 'string', default: process.env.REDIS_URL ?? '' },
    instances: { type: 'string', default: '1' },
    near: { type: 'string', default: '0' },
    suite: { type: 'string' },
    rounds: { type: 'string', default: '1' },
    strict: { type: 'boolean', default: false },
    v: { type: 'boolean', short: 'v', default: false }
  }
})
if (!flags.gateway) {
  console.error('-gateway is missing: write the path of the built program')
  process.exit(2)
}

// install puts the suite into a directory of its own and returns its path.
function install () {
  const lock = fs.readFileSync(path.join(here, 'package-lock.json'))
  const dir = path.join(os.tmpdir(), 'weir-conformance-' + createHash('sha256').update(lock).digest('hex').slice(0, 16))
  const suite = path.join(dir, 'node_modules', 'http-cache-tests')
  const done = path.join(dir, 'installed')
  if (!fs.existsSync(done)) {
    fs.mkdirSync(dir, { recursive: true })
    for (const name of ['package.json', 'package-lock.json']) fs.copyFileSync(path.join(here, name), path.join(dir, name))
    execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--silent'], { cwd: dir, stdio: 'inherit' })
    fs.writeFileSync(done, '')
  }
  return suite
}

// start runs a program until the process ends and returns what it says after
// prefix in a line on its standard output.
async function start (command, args, options, prefix) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
  let log = ''
  child.stderr.on('data', chunk => {
    log += chunk
    if (flags.v) process.stderr.write(chunk)
  })
  const kill = () => child.kill()
  process.on('exit', kill)
  child.on('exit', () => process.off('exit', kill))
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith(prefix)) {
      child.stdout.resume()
      return { child, said: line.slice(prefix.length) }
    }
  }
  throw new Error(`${command} ended before it listened:\n${log}`)
}

async function stop (child) {
  const exited = once(child, 'exit')
  child.kill()
  await exited
}

// roundRobin spreads requests over several gateways, as a load balancer would.
async function roundRobin (targets) {
  let next = 0
  const agent = new http.Agent({ keepAlive: true })
  const server = http.createServer((req, res) => {
    const target = new URL(targets[next++ % targets.length])
    const out = http.request({ agent, host: target.hostname, port: target.port, method: req.method, path: req.url, headers: req.rawHeaders }, up => {
      res.writeHead(up.statusCode, up.statusMessage, up.rawHeaders)
      up.pipe(res)
      up.on('error', () => res.destroy())
    })
    out.on('information', info => {
      if (info.statusCode === 103) res.writeEarlyHints(info.headers)
      if (info.statusCode === 102) res.writeProcessing()
    })
    out.on('error', () => res.destroy())
    req.pipe(out)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => { server.close(); server.closeAllConnections(); agent.destroy() } }
}

// within returns the path of a file of the suite's own programs.
function within (suite, file) {
  const engine = path.join(suite, 'test-engine')
  return path.join(fs.existsSync(engine) ? engine : suite, file)
}

// measure runs the suite once through the gateway and returns its raw results.
async function measure (suite, profile) {
  // The suite's server takes any interface; this one keeps to loopback.
  const loopback = 'data:text/javascript,' + encodeURIComponent(
    'import net from "node:net"; const listen = net.Server.prototype.listen;' +
    'net.Server.prototype.listen = function (port) { return listen.call(this, { port: Number(port), host: "127.0.0.1" }) }')
  const origin = await start(process.execPath, ['--import', loopback, within(suite, 'server/server.mjs')], {
    cwd: suite,
    env: { ...process.env, npm_config_protocol: 'http', npm_config_port: '0', npm_config_pidfile: os.devNull }
  }, 'Listening on ')
  const gateways = []
  for (let i = 0; i < Number(flags.instances); i++) {
    gateways.push(await start(path.resolve(flags.gateway), ['-listen', '127.0.0.1:0', '-origin', origin.said.replace(/\/$/, ''), '-cache', profile, '-wait', '5s', '-near', flags.near], {
      env: { ...process.env, REDIS_URL: flags.redis }
    }, 'listening on '))
  }
  const balancer = gateways.length > 1 ? await roundRobin(gateways.map(g => 'http://' + g.said)) : null
  try {
    const client = spawn(process.execPath, ['--no-warnings', within(suite, 'cli.mjs')], {
      cwd: suite,
      env: { ...process.env, npm_config_base: balancer ? balancer.url : 'http://' + gateways[0].said, npm_package_config_id: '' },
      stdio: ['ignore', 'pipe', 'inherit']
    })
    let out = ''
    client.stdout.on('data', chunk => { out += chunk })
    await once(client, 'close')
    return JSON.parse(out.slice(out.indexOf('{')))
  } finally {
    balancer?.close()
    for (const { child } of gateways) await stop(child)
    await stop(origin.child)
  }
}

// judge turns raw results into verdicts: of each kind, how many tests pass, and
// what became of the others.
async function judge (suite, results) {
  const load = file => import(pathToFileURL(file))
  const { default: suites } = await load(path.join(suite, 'tests/index.mjs'))
  const { determineTestResult } = await load(within(suite, flags.suite ? 'lib/results.mjs' : 'lib/display.mjs'))
  const names = { '✅': 'pass', '⛔️': 'fail', '⚠️': 'optional_fail', Y: 'pass', N: 'no', '🔹': 'setup_fail', '⁉️': 'harness_fail', '⚪️': 'dependency_fail', '↻': 'retry', '-': 'untested' }
  const counts = { required: [0, 0], optimal: [0, 0], check: [0, 0] }
  const others = {}
  for (const { tests } of suites) { // without Surrogate-Control, a W3C note: the suite does not count its tests
    for (const test of tests) {
      if (test.browser_only) continue
      const kind = test.kind ?? 'required'
      const verdict = names[determineTestResult(suites, test.id, results)[2]]
      counts[kind][1]++
      if (verdict === 'pass') {
        counts[kind][0]++
      } else {
        others[test.id] = { kind, verdict, said: results[test.id]?.[1] ?? '' }
      }
    }
  }
  return { counts, others }
}

// compare returns what differs from what is expected of a profile.
function compare (expected, { counts, others }) {
  const wrong = []
  for (const kind of ['required', 'optimal']) { // what the checks say is a choice of the cache's
    if (counts[kind][0] < expected.passed[kind]) wrong.push(`${kind}: ${counts[kind][0]} passed, ${expected.passed[kind]} expected`)
  }
  for (const [id, { kind, verdict, said }] of Object.entries(others)) {
    if (kind !== 'check' && !(id in expected.notPassed)) wrong.push(`${id} (${kind}): ${verdict}: ${said}`)
  }
  for (const id of Object.keys(expected.notPassed)) {
    if (!(id in others)) wrong.push(`${id} passes: take it off the list in expected.json`)
  }
  return wrong
}

// round measures one profile and returns what is not as expected.
async function round (profile) {
  const verdicts = await judge(suite, await measure(suite, profile))
  const line = Object.entries(verdicts.counts).map(([kind, [passed, all]]) => `${kind} ${passed}/${all}`).join(', ')
  console.log(`${profile}: ${line}`)
  if (flags.v) for (const [id, o] of Object.entries(verdicts.others)) console.log(`  ${o.kind} ${id}: ${o.verdict}: ${o.said}`)
  return compare(expected[profile], verdicts)
}

const suite = flags.suite ? path.resolve(flags.suite) : install()
const expected = JSON.parse(fs.readFileSync(path.join(here, flags.suite ? 'expected-2026.json' : 'expected.json')))
let failed = false
for (let n = 0; n < Number(flags.rounds); n++) {
  for (const profile of new Set(flags.profile)) {
    let wrong = await round(profile)
    if (wrong.length > 0 && !flags.strict) {
      console.log(`  ${wrong.join('\n  ')}\n  once more`)
      wrong = await round(profile)
    }
    for (const w of wrong) {
      failed = true
      console.log(`  UNEXPECTED ${w}`)
    }
  }
}
process.exit(failed ? 1 : 0)
