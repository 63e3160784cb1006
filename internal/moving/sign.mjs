// Prints HS256 tokens of libraries of Node.js, with sub and exp: the library, and the token.
import jwt from "jsonwebtoken";
import { SignJWT } from "jose";

const secret = process.argv[2];
console.log("jsonwebtoken\t" + jwt.sign({}, secret, { subject: "johndoe", expiresIn: "5m" }));
console.log("jose\t" + (await new SignJWT({}).setProtectedHeader({ alg: "HS256" }).setSubject("johndoe").setExpirationTime("5m").sign(new TextEncoder().encode(secret))));
