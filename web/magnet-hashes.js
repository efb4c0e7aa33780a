// SHA-384 of the built files, in the form of the integrity attribute. Empty here; scripts/web-seal writes it at build
// time. A file that is not listed is loaded unchecked.
export default {};
