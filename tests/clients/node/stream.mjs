// Prints what zongji reads, one JSON object a line (see ../README.md). ZONGJI is the main file of @powersync's or of @vlasky's.

const options = JSON.parse(process.argv[2]);
const ZongJi = (await import(process.env.ZONGJI)).default;

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function value(of) {
  if (Buffer.isBuffer(of)) return { hex: of.toString('hex') };
  if (of instanceof Date) return of.toISOString();
  if (Array.isArray(of)) return of.join(',');
  if (typeof of === 'bigint') return of.toString();
  if (of !== null && typeof of === 'object') return 'x' in of ? { point: [of.x, of.y] } : { json: of };
  return of === undefined ? null : of;
}

function row(values) {
  return Object.fromEntries(Object.entries(values).map(([name, of]) => [name, value(of)]));
}

const zongji = new ZongJi({
  host: options.host,
  port: options.port,
  user: options.user,
  password: options.password,
  dateStrings: true,
  supportBigNumbers: true,
  bigNumberStrings: true,
});

let file = options.start.file;
let gno = 0;

zongji.on('ready', () => say({ e: 'ready' }));
zongji.on('error', (error) => {
  process.stderr.write(`${error.stack || error}\n`);
  process.exit(1);
});
zongji.on('binlog', (event) => {
  const place = { gno, file, pos: event.nextPosition };
  switch (event.getEventName()) {
    case 'rotate':
      if (file !== event.binlogName) say({ e: 'rotate', file: event.binlogName });
      file = event.binlogName;
      break;
    case 'gtidlog':
      gno = Number(event.transactionRange);
      break;
    case 'gtid':
      gno = Number(event.gno);
      break;
    case 'heartbeat':
    case 'heartbeat_v2':
      say({ e: 'heartbeat' });
      break;
    case 'xid':
      say({ e: 'commit', ...place });
      break;
    case 'query':
      if (event.query === 'BEGIN') say({ e: 'begin' });
      else if (event.query === 'COMMIT') say({ e: 'commit', ...place });
      else say({ e: 'ddl', db: event.schema, sql: event.query, ...place });
      break;
    case 'writerows':
    case 'updaterows':
    case 'deleterows': {
      const { parentSchema: db, tableName: table } = event.tableMap[event.tableId];
      const op = event.getEventName().replace('rows', '').replace('write', 'insert');
      for (const change of event.rows) say({ e: 'row', op, db, table, row: row(op === 'update' ? change.after : change) });
      break;
    }
    default:
  }
});

process.on('SIGTERM', () => process.exit(0));
const start = { serverId: options.server_id };
// Only @vlasky's knows GTIDs; the other one ignores the property, so it is not given one.
if (options.mode === 'gtid') start.gtidSet = options.start.gtid;
else Object.assign(start, { filename: options.start.file, position: options.start.pos });
if (options.only.length > 0) {
  start.includeSchema = {};
  for (const name of options.only) {
    const [db, table] = name.split('.');
    (start.includeSchema[db] ??= []).push(table);
  }
}
zongji.start(start);
