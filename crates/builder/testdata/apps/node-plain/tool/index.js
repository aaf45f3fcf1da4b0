module.exports = () => `built with NODE_ENV=${process.env.NODE_ENV}\n`;
