// seccomp.mjs: a program under a real seccomp filter, made from a profile of Docker's form, as a container runtime makes it. x86-64.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const HEADER = '/usr/include/x86_64-linux-gnu/asm/unistd_64.h'; // linux-libc-dev, which the build needs
const AUDIT_ARCH_X86_64 = 0xc000003e;
const [LD, JEQ, AND, RET] = [0x20, 0x15, 0x54, 0x06]; // of BPF: load a word of struct seccomp_data, compare, mask, return
const [NUMBER, ARCH, ARG0] = [0, 4, 16];
const RETURNS = { SCMP_ACT_ALLOW: () => 0x7fff0000, SCMP_ACT_ERRNO: (errno) => 0x00050000 | errno };

// Puts the filter of its first argument upon itself and becomes the rest: prctl(PR_SET_NO_NEW_PRIVS), prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER).
const LOADER = `open F, '<', shift or die $!; binmode F; local $/; my $filter = <F>;
my $program = pack('S x6 P', length($filter) / 8, $filter);
syscall(157, 38, 1, 0, 0, 0) == 0 or die "no_new_privs: $!"; syscall(157, 22, 2, $program, 0, 0) == 0 or die "seccomp: $!"; exec @ARGV or die $!;`;

async function numbers() {
  const table = new Map();
  for (const [, name, number] of (await readFile(HEADER, 'utf8')).matchAll(/^#define __NR_(\w+)\s+(\d+)/gm)) table.set(name, Number(number));
  return table;
}

// profile → the filter's bytes. A name that this kernel's headers do not know is none that can be called; `unknown` is told of it.
export async function filterOf({ defaultAction, defaultErrnoRet = 1, syscalls }, { unknown = () => {} } = {}) {
  const table = await numbers();
  const code = [[LD, 0, 0, ARCH], [JEQ, 1, 0, AUDIT_ARCH_X86_64], [RET, 0, 0, RETURNS.SCMP_ACT_ERRNO(1)], [LD, 0, 0, NUMBER]];
  for (const { names, action, errnoRet = 1, args = [] } of syscalls) {
    for (const name of names) {
      const number = table.get(name);
      if (number === undefined) {
        unknown(name);
        continue;
      }
      const verdict = [RET, 0, 0, RETURNS[action](errnoRet)];
      if (args.length === 0) code.push([JEQ, 0, 1, number], verdict);
      else {
        const [{ index, value, valueTwo, op }] = args;
        if (args.length !== 1 || index !== 0 || op !== 'SCMP_CMP_MASKED_EQ') throw new Error(`${name}: arguments are not supported here: ${JSON.stringify(args)}`);
        code.push([JEQ, 0, 5, number], [LD, 0, 0, ARG0], [AND, 0, 0, value], [JEQ, 0, 1, valueTwo], verdict, [LD, 0, 0, NUMBER]);
      }
    }
  }
  code.push([RET, 0, 0, RETURNS[defaultAction](defaultErrnoRet)]);
  const bytes = Buffer.alloc(code.length * 8);
  code.forEach(([op, yes, no, k], i) => {
    bytes.writeUInt16LE(op, i * 8);
    bytes.writeUInt8(yes, i * 8 + 2);
    bytes.writeUInt8(no, i * 8 + 3);
    bytes.writeUInt32LE(k >>> 0, i * 8 + 4);
  });
  return bytes;
}

// A program in `dir` that is `program` under the profile.
export async function confined(dir, program, profile, options) {
  const [loader, filter, script] = ['loader.pl', 'filter', 'confined'].map((name) => join(dir, name));
  await writeFile(loader, LOADER);
  await writeFile(filter, await filterOf(profile, options));
  await writeFile(script, `#!/bin/sh\nexec perl '${loader}' '${filter}' '${program}' "$@"\n`, { mode: 0o755 });
  return script;
}
