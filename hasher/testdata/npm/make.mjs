// Prints hashes of programs of Node.js, in the form of foreign.txt. make.py has the passwords,
// and the parameters of the Firebase project are those of schemes_test.go.
import { randomBytes } from "node:crypto";
import aspnet from "aspnetcore-identity-password-hasher";
import bcrypt from "bcryptjs";
import firebase from "firebase-scrypt";

const passwords = process.argv.slice(2);
const line = (program, format, password, hash) => console.log([program, format, Buffer.from(password).toString("hex"), hash].join("\t"));
const project = { memCost: 14, rounds: 8, saltSeparator: "Bw==", signerKey: "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==" };

for (const p of passwords) {
  line("aspnetcore-identity-password-hasher", "aspnet", p, await aspnet.hash(p));
  line("bcryptjs", "2b", p, await bcrypt.hash(p, 5));
  const salt = randomBytes(16).toString("base64");
  const hash = await new firebase.FirebaseScrypt(project).hash(p, salt);
  const costs = `n=${project.memCost},r=${project.rounds},p=1,ss=${project.saltSeparator},sk=${project.signerKey}`;
  line("firebase-scrypt", "fbscrypt", p, `$fbscrypt$v=1,${costs}$${salt}$${hash}`);
  line("firebase-scrypt", "firebase", p, `$firebase$${salt}$${hash}`);
}
